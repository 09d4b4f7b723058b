"""Authentication: the API token is required on every path, also on paths that do not exist.

Programs send `Authorization: Bearer TOKEN`. A browser logs in once, and sends a cookie from then on; HTTP Basic (any
user name, the token as password) is for programs that know nothing else. A browser adds a cookie or Basic credentials
to every request by itself, also to one that a foreign page makes. So such a request must come from this server's own
page (Origin, Sec-Fetch-Site) and by a known name (Host, against DNS rebinding). A request with Bearer may come by any
Host, because only a client that knows the token can send it. A ticket (`outlast.api.tickets`) is worth one request to
one path, by a page of the site that it was made for.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from outlast.api import login_page
from outlast.api.errors import UNAUTHORIZED, Handler, error_response
from outlast.api.logins import CODE_S, Logins
from outlast.api.tickets import Tickets

_CHALLENGE = 'Basic realm="Outlast", charset="UTF-8"'
_BROWSER_CHALLENGE = 'Bearer realm="Outlast"'
"""Challenge for browsers, which would ask for a password of their own at `Basic`, also in the middle of a page."""
MISTYPED = "This is not the token of this daemon."
USED_UP = f"This link was used already, or is older than {CODE_S} seconds."
_OWN_FETCH_SITES = frozenset({"same-origin", "none"})
_MODE = "Sec-Fetch-Mode"
TICKET_FIELD = "ticket"
"""Parameter of a query string that has a ticket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as an answer to one without the token depends on it.

    Attributes:
        destination: path and query string that were asked for.
        wants_page: whether a browser shows the answer to a person.
        is_browser: whether a browser asks.
    """

    destination: str
    wants_page: bool
    is_browser: bool

    @classmethod
    def of_request(cls, request: web.BaseRequest, destination: str | None = None) -> Self:
        """Return what `request` asks for. `destination`: where the client wants to go after a login instead."""
        return cls(
            destination=request.path_qs if destination is None else destination,
            wants_page="text/html" in request.headers.get(hdrs.ACCEPT, ""),
            is_browser=_MODE in request.headers,
        )

    @classmethod
    def of_head(cls, head: bytes) -> Self:
        """Return what a request asks for, by its head."""
        _, target, _ = head.split(b" ", 2)
        return cls(
            destination=target.decode("latin-1"),
            wants_page=any(b"text/html" in value for value in _values(head, b"accept")),
            is_browser=bool(_values(head, _MODE.lower().encode())),
        )


class Guard:
    """Middleware that rejects requests without the token, and foreign requests of browsers.

    Args:
        token: API token that clients must send; not empty.
        allowed_hosts: host names by which browsers reach this server, besides loopback and IP addresses.

    Attributes:
        logins: logins of browsers.
        tickets: tickets of pages.
    """

    def __init__(self, token: str, allowed_hosts: Iterable[str] = ()) -> None:
        if not token:
            raise ValueError("the token must not be empty: without a token, anybody could start processes")
        self._token = token.encode()
        self.logins = Logins(token)
        self.tickets = Tickets()
        self._hosts = {"localhost", *(host.lower().strip("[]") for host in allowed_hosts if host)}

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the error response if `request` must be rejected, else None."""
        scheme = self._scheme(request)
        if scheme == "bearer":
            return None
        ticket = self.tickets.take(request.query.get(TICKET_FIELD, ""), request.path)
        if ticket is not None:
            return self._reject_page(request, ticket.origin)
        if scheme is None and request.path != login_page.PATH:  # what is sent there is judged by its handler
            return self.unauthorized(Asked.of_request(request))
        return self._reject_foreign(request)

    def is_authenticated(self, request: web.BaseRequest) -> bool:
        """Tell whether `request` shows the token or a login."""
        return self._scheme(request) is not None

    def unauthorized(self, asked: Asked, said: str = "") -> web.Response:
        """Return the response to a request without the token. Nothing that may follow it on the connection is read.

        `said`: what was wrong with an attempt to log in.
        """
        if asked.wants_page:
            response = login_page.login_page(asked.destination, said)
        else:
            response = error_response(
                UNAUTHORIZED.status,
                UNAUTHORIZED.code,
                "the token is missing or wrong: send the header Authorization: Bearer TOKEN with the token of this "
                "daemon",
            )
        is_browser = asked.is_browser or asked.wants_page
        response.headers[hdrs.WWW_AUTHENTICATE] = _BROWSER_CHALLENGE if is_browser else _CHALLENGE
        response.force_close()
        return response

    def is_shown_in(self, head: bytes, body: bytes = b"") -> bool:
        """Tell whether the first request of a connection shows the token, or a login.

        `head`: the lines up to an empty one. `body`: the first bytes behind it, see `body_bytes`.
        """
        if any(self._scheme_that_shows_token(value) is not None for value in _values(head, b"authorization")):
            return True
        if any(self.logins.is_logged_in(value) for value in _values(head, b"cookie")):
            return True
        given = _login_fields(head, body)
        if self.is_token(given.get("token", "")) or self.logins.is_code(given.get("code", "")):
            return True
        return self._has_ticket(head)

    def _has_ticket(self, head: bytes) -> bool:
        """Tell whether a head has a ticket for what it asks for. The ticket is not used up by that."""
        path, _, query = head.split(b" ", 2)[1].partition(b"?")
        return self.tickets.is_valid(login_page.read_form(query).get(TICKET_FIELD, ""), path.decode("latin-1"))

    def refuse_first(self, head: bytes, body: bytes) -> web.Response:
        """Return the response to the first request of a connection, if it does not show the token."""
        asked, given = Asked.of_head(head), _login_fields(head, body)
        said = MISTYPED if "token" in given else USED_UP if "code" in given else ""
        return self.unauthorized(replace(asked, destination=given.get("next", asked.destination)), said)

    def body_bytes(self, head: bytes) -> int:
        """Return how many bytes of the body are needed to tell whether a request shows the token: those of a login."""
        if not head.startswith(f"POST {login_page.PATH} ".encode()):
            return 0
        length = b"".join(_values(head, b"content-length"))
        return int(length) if length.isdigit() and int(length) <= login_page.MAX_FORM_BYTES else 0

    def is_token(self, given: str) -> bool:
        """Tell whether somebody gave the token, perhaps with blanks around it."""
        return self._is_token(given.strip().encode())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass `request` on to `handler`, or reject it."""
        return self.refusal(request) or await handler(request)

    async def expect(self, request: web.Request) -> None:
        """Answer `Expect: 100-continue`, so that only a client with the token sends its body."""
        if request.headers[hdrs.EXPECT].lower() == "100-continue" and self.refusal(request) is None:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _scheme(self, request: web.BaseRequest) -> str | None:
        """Return how a request shows the token: `bearer`, `basic` or `cookie`; None: it does not."""
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        if given:
            return self._scheme_that_shows_token(_to_bytes(given[0])) if len(given) == 1 else None
        cookies = request.headers.getall(hdrs.COOKIE, [])
        return "cookie" if any(self.logins.is_logged_in(_to_bytes(value)) for value in cookies) else None

    def _scheme_that_shows_token(self, authorization: bytes) -> str | None:
        """Return the scheme by which the value of a header Authorization shows the token, in lower case, or None."""
        scheme, _, credentials = authorization.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"bearer" and self._is_token(credentials.strip()):
            return "bearer"
        if scheme == b"basic" and self._is_token(_password(credentials.strip())):
            return "basic"
        return None

    def _is_token(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._token)

    def _reject_foreign(self, request: web.BaseRequest) -> web.Response | None:
        """Return the error response for a browser that a foreign page sends here, else None."""
        host = request.headers.get(hdrs.HOST, "").lower()
        if not self._is_known(host):
            wrong = "Host"
        elif request.headers.get("Sec-Fetch-Site", "none").lower() not in _OWN_FETCH_SITES:
            wrong = "Sec-Fetch-Site"
        elif not self._is_own(request.headers.get(hdrs.ORIGIN), host):
            wrong = "Origin"
        else:
            return None
        names = "its own name" if wrong == "Sec-Fetch-Site" else "its own name or one in the setting allowed_hosts"
        return error_response(
            web.HTTPForbidden.status_code,
            "FORBIDDEN",
            f"the header {wrong} belongs to another site: with a login or a password, open this server's own pages by "
            f"{names}; "
            "programs send Authorization: Bearer TOKEN instead",
        )

    def _reject_page(self, request: web.BaseRequest, origin: str | None) -> web.Response | None:
        """Return the error response to a ticket that no page of `origin` has sent, else None."""
        given = request.headers.get(hdrs.ORIGIN)
        if origin is None and given is not None:
            return self._reject_foreign(request)
        if origin is not None and given is not None and given.lower() == origin:
            return None
        return error_response(
            web.HTTPForbidden.status_code,
            "FORBIDDEN",
            f"the ticket is for a page of {origin or 'this server'}, and the header Origin says "
            f"{'nothing' if given is None else 'another site'}: make a ticket with the `origin` of the page",
        )

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts or host in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # the origin of a foreign page is never an IP address of this server

    def _is_own(self, origin: str | None, host: str) -> bool:
        """Tell whether an Origin is this server: where the request went, or, if a proxy changed that, a known name."""
        if origin is None:
            return True
        scheme, separator, netloc = origin.lower().partition("://")
        return bool(separator) and scheme in {"http", "https"} and (netloc == host or netloc in self._hosts)


def _values(head: bytes, name: bytes) -> list[bytes]:
    """Return the values of a header in a head, by its name in lower case."""
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [value.strip(b" \t") for found, _, value in fields if found.lower() == name]


def _login_fields(head: bytes, body: bytes) -> dict[str, str]:
    """Return the fields with which a request tries to log in; none if it does something else."""
    method, target, _ = head.split(b" ", 2)
    path, _, query = target.partition(b"?")
    if path != login_page.PATH.encode():
        return {}
    given, secret = (body, "token") if method == b"POST" else (query, "code")  # the token is in no URL
    return {name: value for name, value in login_page.read_form(given).items() if name in {secret, "next"}}


def _password(credentials: bytes) -> bytes:
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        return b""
    return decoded.partition(b":")[2]


def _to_bytes(header: str) -> bytes:
    """Return the bytes of a header that aiohttp has decoded."""
    return header.encode("utf-8", "surrogateescape")

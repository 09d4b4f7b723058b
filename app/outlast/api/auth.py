"""Authentication: the API token is required on every path, also on paths that do not exist.

Programs send `Authorization: Bearer TOKEN`. HTTP Basic (any user name, the token as password) lets a browser open
/docs. A browser adds Basic credentials to every request by itself, also to one that a foreign page makes. So a request
with Basic must come from this server's own page (Origin, Sec-Fetch-Site) and by a known name (Host, against DNS
rebinding). A request with Bearer may come by any Host, because only a client that knows the token can send it.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from outlast.api.errors import UNAUTHORIZED, error_response

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CHALLENGE = 'Basic realm="Outlast", charset="UTF-8"'
_OWN_FETCH_SITES = frozenset({"same-origin", "none"})


class Guard:
    """Middleware that rejects requests without the token, and foreign requests of browsers.

    Args:
        token: API token that clients must send; not empty.
        allowed_hosts: host names by which browsers reach this server, besides loopback and IP addresses.
    """

    def __init__(self, token: str, allowed_hosts: Iterable[str] = ()) -> None:
        if not token:
            raise ValueError("the token must not be empty: without a token, anybody could start processes")
        self._token = token.encode()
        self._hosts = {"localhost", *(host.lower().strip("[]") for host in allowed_hosts if host)}

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the error response if `request` must be rejected, else None."""
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        scheme = self._scheme_that_shows_token(_to_bytes(given[0])) if len(given) == 1 else None
        if scheme == "basic":
            return self._reject_foreign(request)
        return None if scheme == "bearer" else self.unauthorized()

    def unauthorized(self) -> web.Response:
        """Return the response to a request without the token. Nothing that may follow it on the connection is read."""
        response = error_response(
            UNAUTHORIZED.status,
            UNAUTHORIZED.code,
            "the token is missing or wrong: send the header Authorization: Bearer TOKEN with the token of this daemon",
            {hdrs.WWW_AUTHENTICATE: _CHALLENGE},
        )
        response.force_close()
        return response

    def is_shown_in(self, head: bytes) -> bool:
        """Tell whether a head, the lines up to an empty one, shows the token in a header Authorization."""
        fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        return any(
            name.lower() == b"authorization" and self._scheme_that_shows_token(value.strip(b" \t")) is not None
            for name, _, value in fields
        )

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass `request` on to `handler`, or reject it."""
        return self.refusal(request) or await handler(request)

    async def expect(self, request: web.Request) -> None:
        """Answer `Expect: 100-continue`, so that only a client with the token sends its body."""
        if request.headers[hdrs.EXPECT].lower() == "100-continue" and self.refusal(request) is None:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
            f"the header {wrong} belongs to another site: with a password, open this server's own pages by {names}; "
            "programs send Authorization: Bearer TOKEN instead",
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


def _password(credentials: bytes) -> bytes:
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        return b""
    return decoded.partition(b":")[2]


def _to_bytes(header: str) -> bytes:
    """Return the bytes of a header that aiohttp has decoded."""
    return header.encode("utf-8", "surrogateescape")

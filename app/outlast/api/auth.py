"""Who may call: the token, on every route and also on paths that do not exist.

`Authorization: Bearer TOKEN` is for programs. HTTP Basic (any user name, the token as password) lets a
browser open /docs. A browser sends Basic by itself with every request, also with one that a foreign page
makes; so with Basic the request must come from our own page (Origin, Sec-Fetch-Site) and through a name
that is ours (Host, against DNS rebinding). With Bearer any Host will do: only someone who knows the token
can send it.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from outlast.api.errors import error_response

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CHALLENGE = 'Basic realm="Outlast", charset="UTF-8"'
_OWN_FETCH_SITES = frozenset({"same-origin", "none"})


class Guard:
    """Decides about requests.

    Args:
        token: what callers must send; not empty.
        allowed_hosts: host names by which browsers reach us, beside loopback and plain addresses.
    """

    def __init__(self, token: str, allowed_hosts: Iterable[str] = ()) -> None:
        if not token:
            raise ValueError("a token is needed: without one, everybody could start processes")
        self._token = token.encode()
        self._hosts = {"localhost", *(host.lower().strip("[]") for host in allowed_hosts)}

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return what to answer instead of serving `request`, or None when it may be served."""
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        scheme, _, credentials = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        scheme = scheme.lower()
        if scheme == "bearer" and self._is_token(_to_bytes(credentials.strip())):
            return None
        if scheme == "basic" and self._is_token(_password(credentials.strip())):
            return self._foreign(request)
        return error_response(
            web.HTTPUnauthorized.status_code,
            "UNAUTHORIZED",
            "send the header Authorization: Bearer TOKEN, with the token of this daemon",
            {hdrs.WWW_AUTHENTICATE: _CHALLENGE},
        )

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through what may be served."""
        return self.refusal(request) or await handler(request)

    async def expect(self, request: web.Request) -> None:
        """Answer `Expect: 100-continue`, so that only who has the token is asked for a body."""
        if request.headers[hdrs.EXPECT].lower() == "100-continue" and self.refusal(request) is None:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _is_token(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._token)

    def _foreign(self, request: web.BaseRequest) -> web.Response | None:
        """Return what to answer a browser that a foreign page sends here, or None if it is our own page."""
        host = request.headers.get(hdrs.HOST, "").lower()
        if not self._is_known(host):
            wrong = "Host"
        elif request.headers.get("Sec-Fetch-Site", "none").lower() not in _OWN_FETCH_SITES:
            wrong = "Sec-Fetch-Site"
        elif not _is_same(request.headers.get(hdrs.ORIGIN), host):
            wrong = "Origin"
        else:
            return None
        return error_response(
            web.HTTPForbidden.status_code,
            "FORBIDDEN",
            f"with a password, call from this server's own pages and by its own name ({wrong} is foreign); "
            "programs send Authorization: Bearer TOKEN",
        )

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # nobody's page can have an address of ours as its origin but we


def _is_same(origin: str | None, host: str) -> bool:
    if origin is None:
        return True
    scheme, separator, netloc = origin.lower().partition("://")
    return bool(separator) and scheme in {"http", "https"} and netloc == host


def _password(credentials: str) -> bytes:
    try:
        decoded = base64.b64decode(_to_bytes(credentials), validate=True)
    except binascii.Error:
        return b""
    return decoded.partition(b":")[2]


def _to_bytes(header: str) -> bytes:
    """Undo aiohttp's decoding of a header."""
    return header.encode("utf-8", "surrogateescape")

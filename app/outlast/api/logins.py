"""Logins of browsers: cookies that show that a browser had the token, and codes that are worth one login each.

No cookie is stored: it is a time, and an authentication code that only the token can make. So it is valid at the next
daemon, too, and is worth nothing once the token is another one.
"""

import hmac
import secrets
import time

LOGIN_S = 30 * 24 * 3600
"""Time for which a login is valid."""
CODE_S = 60
"""Time for which a code is valid."""

_MAX_CODES = 1000


class Logins:
    """The logins of one token.

    Attributes:
        cookie_name: name of the cookie. It depends on the token: a browser sends the cookies of a host to all of its
            ports, and each may be another daemon.
    """

    def __init__(self, token: str) -> None:
        self._key = hmac.digest(token.encode(), b"outlast login", "sha256")
        self.cookie_name = f"outlast_{self._sign('name')[:8]}"
        self._codes: dict[str, float] = {}

    def new_cookie(self) -> str:
        """Return the value of a header Set-Cookie that logs a browser in."""
        ends_at = str(int(time.time()) + LOGIN_S)
        return self._set_cookie(f"{ends_at}.{self._sign(ends_at)}", LOGIN_S)

    def no_cookie(self) -> str:
        """Return the value of a header Set-Cookie that logs a browser out."""
        return self._set_cookie("", 0)

    def is_logged_in(self, cookies: bytes) -> bool:
        """Tell whether the value of a header Cookie has a login that is valid now."""
        for cookie in cookies.split(b";"):
            name, _, value = cookie.strip().partition(b"=")
            if name == self.cookie_name.encode() and self._is_valid(value):
                return True
        return False

    def new_code(self) -> str:
        """Return a code that is worth one login."""
        now = time.monotonic()
        self._codes = {code: ends_at for code, ends_at in self._codes.items() if ends_at > now}
        while len(self._codes) >= _MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(32)
        self._codes[code] = now + CODE_S
        return code

    def is_code(self, code: str) -> bool:
        """Tell whether a code is worth a login now. The look-up needs no constant time: nobody can guess 256 bits."""
        return self._codes.get(code, 0.0) > time.monotonic()

    def take_code(self, code: str) -> bool:
        """Tell whether a code is worth a login, which it is not any more from now on."""
        return self._codes.pop(code, 0.0) > time.monotonic()

    def _is_valid(self, value: bytes) -> bool:
        ends_at, _, signature = value.partition(b".")
        if not ends_at.isdigit() or not hmac.compare_digest(signature, self._sign(ends_at.decode()).encode()):
            return False
        return int(ends_at) > time.time()

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _set_cookie(self, value: str, age_s: int) -> str:
        return f"{self.cookie_name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict"

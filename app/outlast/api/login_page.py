"""The page on which a browser gives the token: a form, without a script."""

import base64
import hashlib
import html
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

PATH = "/login"
MAX_FORM_BYTES = 8 << 10
"""Maximum size of the form's fields, as a browser sends them."""

_MAX_FIELDS = 10
_STATIC = Path(__file__).with_name("static")
_STYLE = (_STATIC / "login.css").read_text(encoding="utf-8")
_PAGE = (_STATIC / "login.html").read_text(encoding="utf-8").replace("@STYLE@", _STYLE)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with less, a browser would not say in Origin where the form comes from
    hdrs.VARY: "Accept, Cookie",
}


def login_page(destination: str, said: str = "") -> web.Response:
    """Return the page, with the status of a request without the token.

    Args:
        destination: path and query string to go to after the login.
        said: what was wrong with the last try.
    """
    page = _PAGE.replace("@SAID@", html.escape(said)).replace("@NEXT@", html.escape(local(destination)))
    return web.Response(status=HTTPStatus.UNAUTHORIZED, text=page, content_type="text/html", headers=_HEADERS)


def read_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form, as browsers send them; none if they are too many."""
    try:
        return dict(parse_qsl(body.decode("latin-1"), max_num_fields=_MAX_FIELDS, keep_blank_values=True))
    except ValueError:
        return {}


def local(destination: str) -> str:
    """Return a path and query string of this server; `/` if the destination is something else."""
    is_local = destination[:1] == "/" and destination[1:2] not in {"/", "\\"}
    is_plain = destination.isascii() and destination.isprintable() and " " not in destination
    return destination if is_local and is_plain and not destination.startswith(PATH) else "/"

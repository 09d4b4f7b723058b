"""Handlers of the web page: one HTML file, and the modules, styles and pictures that it loads.

All of them are read when this module is imported, because the package may be replaced while the daemon runs. The path
of a file names the build, a digest of all files, so that a browser keeps a file for ever and a page never mixes the
files of two versions.
"""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from aiohttp import hdrs, web

from outlast.api.parsing import RequestInput
from outlast.model.errors import NotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, nothing from other hosts. Trusted types without a policy: no text ever becomes HTML."""

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_BUILD_CHARACTERS = 16
_FOR_EVER = "private, max-age=31536000, immutable"
_INDEX = "index.html"
_BUILD_MARK = b"@BUILD@"


_COMMENTS = re.compile(
    rb"^[ \t]*(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)[ \t]*$|/\*\* @type (?:[^*]|\*(?!/))*\*/ (?=\()", re.MULTILINE
)


class _File(NamedTuple):
    """A file as it is sent."""

    body: bytes
    content_type: str


def _read(folder: Traversable, prefix: str = "") -> dict[str, _File]:
    """Return the files of a folder and its subfolders, by their path in it."""
    found: dict[str, _File] = {}
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif suffix in _CONTENT_TYPES:
            body = entry.read_bytes()
            body = without_comments(body) if suffix == ".js" else body
            found[prefix + entry.name] = _File(body, _CONTENT_TYPES[suffix])
    return found


def without_comments(script: bytes) -> bytes:
    """Return a module without indentation, types, and the comments that are lines of their own: a third less to send.

    Every line keeps its number, so that a browser's messages still tell where something is in the source. No text of a
    module may go over several lines.
    """
    code = _COMMENTS.sub(lambda comment: b"\n" * comment[0].count(b"\n"), script)
    return re.sub(rb"^[ \t]+", b"", code, flags=re.MULTILINE)


def _digest(files: Mapping[str, _File]) -> str:
    """Return the build: hexadecimal digits that change with every file."""
    digest = hashlib.sha256()
    for path, one in files.items():
        digest.update(b"%b\0%d\0%b" % (path.encode(), len(one.body), one.body))
    return digest.hexdigest()[:_BUILD_CHARACTERS]


_FILES = _read(resources.files("outlast") / "web")
BUILD = _digest(_FILES)
_PAGE = _FILES.pop(_INDEX).body.replace(_BUILD_MARK, BUILD.encode())
_ETAG = f'"{BUILD}"'


async def page(request: web.Request, _: RequestInput) -> web.Response:
    """GET /: the page, which is asked for again at each visit and sent only when it has changed."""
    headers = {
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.ETAG: _ETAG,
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Referrer-Policy": "same-origin",  # with less, the form that logs out would come from nowhere
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if _is_known(request):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=_PAGE, headers={**headers, hdrs.CONTENT_TYPE: _CONTENT_TYPES[".html"]})


async def file(request: web.Request, _: RequestInput) -> web.Response:
    """GET /web/{build}/{file}: a file of the page.

    Raises:
        NotFound: the build is another one than this daemon's, or has no such file.
    """
    if request.match_info["build"] != BUILD:
        raise NotFound("this daemon has another version of the page: load the page again")
    found = _FILES.get(request.match_info["file"])
    if found is None:
        raise NotFound("the page has no such file")
    headers = {hdrs.CACHE_CONTROL: _FOR_EVER, hdrs.ETAG: _ETAG}
    if _is_known(request):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=found.body, headers={**headers, hdrs.CONTENT_TYPE: found.content_type})


def _is_known(request: web.Request) -> bool:
    """Tell whether the browser has this build already. Within a path, the build tells all that may change."""
    return any(one.value == BUILD for one in request.if_none_match or ())

"""Handlers of the OpenAPI document and of the page /docs, which is made of files on this machine only."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput

_OWN = Path(__file__).parents[1] / "static"
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}

# No inline scripts, nothing from other hosts. Swagger UI's stylesheet holds its icons as data URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {hdrs.CACHE_CONTROL: "no-cache", "Content-Security-Policy": CONTENT_SECURITY_POLICY}


class _OpenFile(NamedTuple):
    """A file that stays open for as long as this program runs: its package may be replaced or moved meanwhile."""

    path: Path
    content_type: str

    @classmethod
    def open(cls, path: Path) -> "_OpenFile":
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return cls(Path(f"/proc/self/fd/{fd}"), _CONTENT_TYPES[path.suffix])

    def response(self) -> web.FileResponse:
        return web.FileResponse(self.path, headers={**_HEADERS, hdrs.CONTENT_TYPE: self.content_type})


def _swagger_ui() -> Path:
    """Return the folder of Swagger UI's files in the package swagger-ui-py, without importing the package."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package swagger-ui-py is missing: install it")
    return Path(spec.origin).with_name("static")


def _open_files() -> Mapping[str, _OpenFile]:
    swagger_ui = _swagger_ui()
    names = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
    paths = [_OWN / "docs.js", *(swagger_ui / name for name in names)]
    return {path.name: _OpenFile.open(path) for path in paths}


_PAGE = _OpenFile.open(_OWN / "docs.html")
_FILES = _open_files()


async def openapi(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/openapi.json."""
    return web.Response(body=request.app[app_keys.OPENAPI].encoded(), content_type="application/json")


async def page(_: web.Request, __: RequestInput) -> web.FileResponse:
    """GET /docs."""
    return _PAGE.response()


async def file(request: web.Request, _: RequestInput) -> web.FileResponse:
    """GET /docs/{file}: one of the files that the page needs."""
    found = _FILES.get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    return found.response()

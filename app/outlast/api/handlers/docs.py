"""Handlers of the OpenAPI document and of the page /docs, which is made of files on this machine only."""

import mimetypes
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput

_OWN = Path(__file__).parents[1] / "static"
_PAGE = "docs.html"

# No inline scripts, nothing from other hosts. Swagger UI's stylesheet holds its icons as data URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {hdrs.CACHE_CONTROL: "no-cache", "Content-Security-Policy": CONTENT_SECURITY_POLICY}


def _swagger_ui() -> Path:
    """Return the folder of Swagger UI's files in the package swagger-ui-py, without importing the package."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package swagger-ui-py is missing: install it")
    return Path(spec.origin).with_name("static")


def _files() -> Mapping[str, Path]:
    swagger_ui = _swagger_ui()
    names = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
    return {"docs.js": _OWN / "docs.js", **{name: swagger_ui / name for name in names}}


_FILES = _files()


async def openapi(request: web.Request, _: RequestInput) -> web.Response:
    """GET /api/v1/openapi.json."""
    return web.Response(body=request.app[app_keys.OPENAPI].encoded(), content_type="application/json")


async def page(_: web.Request, __: RequestInput) -> web.FileResponse:
    """GET /docs."""
    return _file_response(_OWN / _PAGE)


async def file(request: web.Request, _: RequestInput) -> web.FileResponse:
    """GET /docs/{file}: one of the files that the page needs."""
    path = _FILES.get(request.match_info["file"])
    if path is None:
        raise web.HTTPNotFound
    return _file_response(path)


def _file_response(path: Path) -> web.FileResponse:
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix in {".html", ".css", ".js"}:
        content_type += "; charset=utf-8"
    return web.FileResponse(path, headers={**_HEADERS, hdrs.CONTENT_TYPE: content_type})

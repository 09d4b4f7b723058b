"""Calls that write to a process's standard input."""

from http import HTTPStatus

from aiohttp import web

from app.api import keys
from app.api.intake import Given
from app.api.route import ref_of


async def write(request: web.Request, _: Given) -> web.Response:
    """POST /api/v1/processes/{ref}/stdin: the body goes through as it comes, however long it is."""
    await request.app[keys.MANAGER].write_stdin(ref_of(request), request.content.iter_any())
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def close(request: web.Request, _: Given) -> web.Response:
    """POST /api/v1/processes/{ref}/stdin/close."""
    await request.app[keys.MANAGER].close_stdin(ref_of(request))
    return web.Response(status=HTTPStatus.NO_CONTENT)

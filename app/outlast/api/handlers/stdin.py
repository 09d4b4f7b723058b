"""Handlers that write to and close the standard input of a process."""

from http import HTTPStatus

from aiohttp import web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.api.route import ref_of


async def write(request: web.Request, _: RequestInput) -> web.Response:
    """POST /api/v1/processes/{ref}/stdin: pass the body on as it comes, whatever its size."""
    await request.app[app_keys.MANAGER].write_stdin(ref_of(request), request.content.iter_any())
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def close(request: web.Request, _: RequestInput) -> web.Response:
    """POST /api/v1/processes/{ref}/stdin/close."""
    await request.app[app_keys.MANAGER].close_stdin(ref_of(request))
    return web.Response(status=HTTPStatus.NO_CONTENT)

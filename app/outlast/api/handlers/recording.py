"""Handler of the recording of a terminal."""

import contextlib
from collections.abc import AsyncGenerator

from aiohttp import web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.api.route import ref_of
from outlast.api.streaming.response import send_or_fail
from outlast.core.manager import ProcessManager
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.process import Process

CONTENT_TYPE = "application/x-asciicast"


async def recording(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/recording."""
    manager = request.app[app_keys.MANAGER]
    process = (await manager.get(ref_of(request))).process
    return await send_or_fail(request, CONTENT_TYPE, _lines(manager, process, given.query))


async def _lines(manager: ProcessManager, process: Process, version: int) -> AsyncGenerator[bytes, None]:
    from outlast.core.terminals.recording import record  # noqa: PLC0415 - most daemons have no terminal

    sizes = await manager.sessions.sizes(process)
    async with contextlib.aclosing(manager.read_output(process, OutputQuery())) as chunks:
        async for line in record(process, chunks, sizes, version):
            yield line

"""Handler that waits for a condition of a process."""

import asyncio

from aiohttp import web

from outlast.api import app_keys
from outlast.api.handlers.follow import HEARTBEAT_S
from outlast.api.handlers.serializers import process_info
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response, ref_of
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.wait_conditions import Line, NotMetReason, WaitQuery
from outlast.model.errors import Unavailable


async def wait(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}/wait."""
    query: WaitQuery
    query, timeout_s = given.query
    manager = request.app[app_keys.MANAGER]
    process = (await manager.get(ref_of(request))).process
    line: Line | None = None
    reason: NotMetReason | None = None
    try:
        async with asyncio.timeout(timeout_s):
            met = await manager.wait_until(process, query, heartbeat_s=HEARTBEAT_S)
            line = met if isinstance(met, Line) else None
            reason = None if met else NotMetReason.ENDED
    except TimeoutError:
        reason = NotMetReason.TIMEOUT
    except FollowInterrupted:
        raise Unavailable("the daemon is shutting down: repeat the request when it is back") from None
    return json_response(
        {
            "met": reason is None,
            "until": query.until,
            "reason": reason,
            "seq": line and line.seq,
            "line": line and line.data.removesuffix(b"\n").decode("utf-8", "replace"),
            "stream": line and line.stream.word,
            "timestamp": line and line.ts_ms,
            "process": process_info(await manager.get(process.spec.id)),
        }
    )

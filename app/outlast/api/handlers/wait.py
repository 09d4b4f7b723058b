"""Waiting for something to be so of a process."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from marshmallow import ValidationError, post_load, validates_schema

from outlast.api import app_keys
from outlast.api.handlers.follow import HEARTBEAT_S
from outlast.api.handlers.serializers import process_info
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response, ref_of
from outlast.api.schemas import fields, line_fields
from outlast.api.schemas.base import Strict
from outlast.core.manager import ProcessManager
from outlast.core.query import wait_conditions
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.matcher import Matcher, make_matcher
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.query.wait_conditions import Line, NotMet, WaitFor
from outlast.model.errors import Unavailable
from outlast.model.output import Stream
from outlast.model.process import Process

_DEFAULT_TIMEOUT_MS = 30_000
_IDLE_LOOK_S = (0.02, 0.5)
# Which parameter each needs, and which it takes besides.
_NEEDS = {WaitFor.OUTPUT: "pattern", WaitFor.PORT: "port", WaitFor.IDLE: "idle_ms"}
_TAKES = {
    WaitFor.EXIT: set[str](),
    WaitFor.OUTPUT: {"pattern", "regex", "stream", "after"},
    WaitFor.PORT: {"port"},
    WaitFor.IDLE: {"idle_ms", "stream"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What to wait for, and how long."""

    until: WaitFor
    matcher: Matcher | None
    stream: Stream | None
    after: int
    port: int
    idle_ms: int
    timeout_s: float


class WaitQuery(Strict):
    """GET .../wait. Loads as a `Wait`."""

    until = fields.Choice(WaitFor, required=True, metadata={"description": "What to wait for."})
    pattern = fields.String(
        validate=line_fields.PATTERN,
        metadata={"description": "For `output`: what a line must hold, case mattering. What is stored already counts."},
    )
    regex = fields.QueryFlag(load_default=False, metadata={"description": f"`pattern` {line_fields.REGEX}"})
    stream = line_fields.StreamName(metadata={"description": "For `output` and `idle`: only this stream."})
    after = fields.QueryInteger(metadata={"description": "For `output`: only lines after this id."})
    port = fields.QueryInteger(
        low=1,
        high=fields.MAX_PORT,
        metadata={"description": "For `port`: a TCP port of this machine on which somebody must take connections."},
    )
    idle_ms = fields.QueryInteger(
        low=1,
        metadata={"description": "For `idle`: so many milliseconds without output, those before the call included."},
    )
    timeout = fields.QuerySeconds(
        load_default=_DEFAULT_TIMEOUT_MS,
        metadata={"description": "Seconds to wait at most.", "default": _DEFAULT_TIMEOUT_MS // 1000},
    )

    @validates_schema
    def _check_parameters(self, data: dict[str, Any], **_: Any) -> None:
        until = data["until"]
        needed = _NEEDS.get(until)
        if needed is not None and needed not in data:
            raise ValidationError({needed: [f"is required with until={until}"]})
        given = {name for name in data if name not in ("until", "timeout") and data[name] is not False}
        for name in sorted(given - _TAKES[until]):
            raise ValidationError({name: [f"is not for until={until}, leave it out"]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Wait:
        return Wait(
            until=data["until"],
            matcher=make_matcher(data["pattern"], "pattern", is_regex=data["regex"]) if "pattern" in data else None,
            stream=data.get("stream"),
            after=data.get("after", 0),
            port=data.get("port", 0),
            idle_ms=data.get("idle_ms", 0),
            timeout_s=data["timeout"] / 1000,
        )


async def wait(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}/wait."""
    query: Wait = given.query
    manager = request.app[app_keys.MANAGER]
    process = (await manager.get(ref_of(request))).process
    found: Line | None = None
    reason: NotMet | None = None
    try:
        async with asyncio.timeout(query.timeout_s):
            met = await _until(manager, process, query)
            found = met if isinstance(met, Line) else None
            reason = None if met else NotMet.ENDED
    except TimeoutError:
        reason = NotMet.TIMEOUT
    except FollowInterrupted:
        raise Unavailable("the daemon is shutting down; ask the next one") from None
    return json_response(
        {
            "met": reason is None,
            "until": query.until,
            "reason": reason,
            "seq": found and found.seq,
            "line": found and found.data.removesuffix(b"\n").decode("utf-8", "replace"),
            "stream": found and found.stream.word,
            "timestamp": found and found.ts_ms,
            "process": process_info(await manager.get(process.spec.id)),
        }
    )


async def _until(manager: ProcessManager, process: Process, query: Wait) -> Line | bool | None:
    """Wait. What is true: it is so. What is not: the process has ended, and it will not be."""
    if query.until is WaitFor.EXIT:
        await manager.wait_ended(process)
        return True
    if query.until is WaitFor.OUTPUT and query.matcher is not None:
        where = OutputQuery(after=query.after, stream=query.stream)
        chunks = manager.follow(process, where, heartbeat_s=HEARTBEAT_S)
        return await manager.queries.wait_for_line(chunks, query.matcher)
    if query.until is WaitFor.PORT:
        return await wait_conditions.wait_for_port(query.port, lambda: _has_ended(manager, process))
    last_seq, last_ts_ms = 0, process.run.started_at_ms
    async for chunk in manager.read_output(process, OutputQuery(tail=1, stream=query.stream)):
        last_seq, last_ts_ms = chunk.last_seq, chunk.ts_ms
    where = OutputQuery(after=last_seq, stream=query.stream)
    look_s = min(max(query.idle_ms / 4000, _IDLE_LOOK_S[0]), _IDLE_LOOK_S[1])
    return await wait_conditions.wait_for_silence(
        manager.follow(process, where, heartbeat_s=look_s), query.idle_ms, last_ts_ms
    )


def _has_ended(manager: ProcessManager, process: Process) -> bool:
    if manager.is_closing:
        raise FollowInterrupted
    return manager.has_ended(process)

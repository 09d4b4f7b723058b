"""Running a command: it is started, streamed to its end, and killed when its caller hangs up."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator

from aiohttp import web

from outlast.api import app_keys
from outlast.api.handlers.follow import EVENT_STREAM, HEARTBEAT_S
from outlast.api.parsing import RequestInput
from outlast.api.streaming import sse
from outlast.api.streaming.lines import LineJoiner
from outlast.api.streaming.response import send
from outlast.core.manager import ProcessManager
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.views import StartOutcome
from outlast.model.errors import NotFound, OutlastError
from outlast.model.output import Chunk, Stream, count_lines
from outlast.model.process import Process, Status

_QUIET_S = 1.0  # when others hold the output of a command that has ended
_KILL_AGAIN_S = 0.2
_log = logging.getLogger(__name__)


async def run(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """POST /api/v1/processes/run."""
    manager, changes = request.app[app_keys.MANAGER], request.app[app_keys.BACKGROUND_TASKS]
    detach: bool = given.query
    start = changes.begin(manager.start(given.body))
    stream: _RunStream | None = None
    try:
        outcome = await asyncio.shield(start)
        stream = _RunStream(manager, outcome.view.process)
        response = web.StreamResponse(headers=EVENT_STREAM)
        await send(request, response, stream.events())
        return response
    finally:
        hung_up = stream is None or not stream.is_complete
        if hung_up and not detach and not manager.is_closing:
            changes.begin(_kill(manager, start))


class _RunStream:
    """What the caller is sent.

    Attributes:
        is_complete: all of it was there to be sent.
    """

    def __init__(self, manager: ProcessManager, process: Process) -> None:
        self._manager = manager
        self._process = process
        self._lines = _RunLines()
        self.is_complete = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        run, spec = self._process.run, self._process.spec
        yield sse.data_event({"pid": run.pid, "started_at": run.started_at_ms, "id": spec.id})
        silent_s = 0.0
        follow = self._manager.follow(self._process, OutputQuery(), heartbeat_s=_QUIET_S)
        try:
            async with contextlib.aclosing(follow) as chunks:
                async for chunk in chunks:
                    if chunk is not None:
                        silent_s = 0.0
                        for piece in self._lines.add(chunk):
                            yield piece
                        continue
                    if self._manager.has_ended(self._process):
                        break
                    silent_s += _QUIET_S
                    if silent_s >= HEARTBEAT_S:
                        silent_s = 0.0
                        yield sse.KEEP_ALIVE
        except FollowInterrupted:
            return
        for piece in self._lines.rest():
            yield piece
        ending = await self._ending()
        self.is_complete = True
        yield ending

    async def _ending(self) -> bytes:
        process = (await self._manager.get(self._process.spec.id)).process
        ending = process.run.ending
        if ending is None:  # it is purged meanwhile, or the store was replaced
            raise NotFound(f"process {process.run.pid} is gone")
        how = {"signal": ending.signal} if ending.signal is not None else {"exit_code": ending.exit_code}
        oom_killed = ending.status is Status.OOM_KILLED
        return sse.data_event({**how, "oom_killed": oom_killed, "reason": ending.reason})


class _RunLines:
    """Encodes whole lines: a part of one waits for its rest, as the caller could not tell that it is one."""

    def __init__(self) -> None:
        self._joiners = {stream: LineJoiner() for stream in Stream}
        self._last: dict[Stream, Chunk] = {}

    def add(self, chunk: Chunk) -> Iterator[bytes]:
        """Encode the lines that `chunk` ends, in pieces of about `sse.PIECE_BYTES`."""
        before = self._last.get(chunk.stream, chunk)
        self._last[chunk.stream] = chunk
        for lines in self._joiners[chunk.stream].add(chunk):
            yield from _pieces(lines, before if chunk.gap else chunk)
        if chunk.gap:
            yield sse.run_gap_event(chunk)

    def rest(self) -> Iterator[bytes]:
        """Encode the last lines that have no end."""
        for stream, joiner in self._joiners.items():
            for lines in joiner.rest():
                yield from _pieces(lines, self._last[stream])


def _pieces(lines: bytes, chunk: Chunk) -> Iterator[bytes]:
    for block in sse.blocks(lines, count_lines(lines)):
        yield sse.run_events(block, chunk)


async def _kill(manager: ProcessManager, start: asyncio.Task[StartOutcome]) -> None:
    """Kill what `start` has started, with its tree. While the shim can't be asked, it is asked again."""
    try:
        outcome = await start
    except OutlastError:
        return  # nothing was started
    process = outcome.view.process
    while not manager.is_closing:
        try:
            await manager.kill(process.spec.id)
        except NotFound:
            return
        except OutlastError as exc:
            _log.warning("%s, whose caller has hung up, is not killed yet: %s", process.spec.id, exc)
            await asyncio.sleep(_KILL_AGAIN_S)
        else:
            return

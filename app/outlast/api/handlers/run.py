"""Handler that runs a command: starts it, streams its output, and kills it when its client disconnects."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence

from aiohttp import web

from outlast.api import app_keys
from outlast.api.handlers.follow import EVENT_STREAM, HEARTBEAT_S
from outlast.api.parsing import RequestInput
from outlast.api.streaming import sse
from outlast.api.streaming.lines import LineJoiner
from outlast.api.streaming.response import send
from outlast.core.manager import ProcessManager
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.views import StartOutcome
from outlast.model.errors import NotFound, OutlastError
from outlast.model.output import Chunk, Stream, TrimGap, count_lines
from outlast.model.process import Process, Status

_CHECK_S = 0.5
"""Time without output after which it is checked whether the command has ended, though children hold its output.

The stream is closed when it has, and there is nothing more at the next check.
"""

_KILL_RETRY_S = 0.2
_log = logging.getLogger(__name__)


async def run(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """POST /api/v1/processes/run."""
    manager, tasks = request.app[app_keys.MANAGER], request.app[app_keys.BACKGROUND_TASKS]
    detach: bool = given.query
    start = tasks.run_in_background(manager.start(given.body))
    stream: _RunStream | None = None
    try:
        outcome = await asyncio.shield(start)
        stream = _RunStream(manager, outcome.view.process, given.warnings)
        response = web.StreamResponse(headers=EVENT_STREAM)
        await send(request, response, stream.events())
        return response
    finally:
        disconnected = stream is None or not stream.is_complete
        if disconnected and not detach and not manager.is_closing:
            tasks.run_in_background(_kill(manager, start))


class _RunStream:
    """The stream of events that the client of a run gets.

    Attributes:
        is_complete: whether the last event was made.
    """

    def __init__(self, manager: ProcessManager, process: Process, warnings: Sequence[str]) -> None:
        """`warnings`: about the request, for the first event."""
        self._manager = manager
        self._process = process
        self._warnings = warnings
        self._lines = _RunLines()
        self.is_complete = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        run, spec = self._process.run, self._process.spec
        warnings = {"warnings": self._warnings} if self._warnings else {}
        yield sse.data_event({"pid": run.pid, "started_at": run.started_at_ms, "id": spec.id, **warnings})
        sent_at = time.monotonic()
        had_ended = False
        follow = self._manager.follow_batches(self._process, OutputQuery(), heartbeat_s=_CHECK_S)
        async with contextlib.aclosing(follow) as batches:
            async for chunks in batches:
                is_silent = chunks is not None and not chunks
                if is_silent and had_ended:
                    break
                for chunk in chunks or ():
                    for piece in self._lines.encode(chunk):
                        yield piece
                        sent_at = time.monotonic()
                if time.monotonic() - sent_at >= HEARTBEAT_S:
                    yield sse.KEEP_ALIVE
                    sent_at = time.monotonic()
                # Before the next read, which then finds the last lines.
                had_ended = self._manager.has_ended(self._process)
        for piece in self._lines.encode_rest():
            yield piece
        last = await self._last_event()
        self.is_complete = True
        yield last

    async def _last_event(self) -> bytes:
        process = (await self._manager.get_when_readable(self._process.spec.id)).process
        ending = process.run.ending
        if ending is None:  # the process was purged meanwhile, or the store was replaced
            raise NotFound(f"process {process.run.pid} was deleted while it ran")
        how = {"signal": ending.signal} if ending.signal is not None else {"exit_code": ending.exit_code}
        oom_killed = ending.status is Status.OOM_KILLED
        return sse.data_event({**how, "oom_killed": oom_killed, "reason": ending.reason})


class _RunLines:
    """Encoder of whole lines. A part of a line waits for its rest: the client cannot tell a part from a line.

    The id of an event is where a follower continues behind it: it is never beyond a part that waits.
    """

    def __init__(self) -> None:
        self._joiners = {stream: LineJoiner() for stream in Stream}
        self._last: dict[Stream, Chunk] = {}

    def encode(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the lines that `chunk` completes as events, in pieces of about `sse.PIECE_BYTES`."""
        if isinstance(chunk, TrimGap):
            yield from self.encode_rest()
        elif not chunk.continues:
            yield from self._finish(chunk.stream)
        self._last[chunk.stream] = chunk
        yield from self._pieces(self._joiners[chunk.stream].join(chunk), chunk, chunk.first_seq)
        if chunk.gap:
            yield sse.run_gap_event(chunk, self._ids(chunk.last_seq, 1)[0])

    def encode_rest(self) -> Iterator[bytes]:
        """Yield the last lines, which have no line break, as events."""
        for stream in Stream:
            yield from self._finish(stream)

    def _finish(self, stream: Stream) -> Iterator[bytes]:
        line = self._joiners[stream].finish()
        if line:
            last = self._last[stream]
            yield from self._pieces(line, last, last.last_seq)

    def _pieces(self, lines: bytes, chunk: Chunk, seq: int) -> Iterator[bytes]:
        """Yield `lines`, the first of which has the sequence number `seq`."""
        for block in sse.blocks(lines, count_lines(lines)):
            count = count_lines(block)
            yield sse.run_events(block, chunk, self._ids(seq, count))
            seq += count

    def _ids(self, seq: int, count: int) -> Sequence[int]:
        """Return the ids of the events of `count` lines, the first of which has the sequence number `seq`."""
        waiting = [joiner.open_seq for joiner in self._joiners.values() if joiner.open_seq is not None]
        end = min(waiting, default=seq + count)
        return [min(number, end - 1) for number in range(seq, seq + count)]


async def _kill(manager: ProcessManager, start: asyncio.Task[StartOutcome]) -> None:
    """Kill the process tree that `start` has started. Repeat while the shim or the store is not available.

    If an earlier call with the same idempotency key has started the process, the process is that call's.
    """
    try:
        outcome = await start
    except OutlastError:
        return  # nothing was started
    if not outcome.created:
        return
    process = outcome.view.process
    while not manager.is_closing:
        try:
            await manager.kill(process.spec.id)
        except NotFound:
            return
        except OutlastError as exc:
            _log.warning("process %s, whose client has disconnected, is not killed yet: %s", process.spec.id, exc)
            await asyncio.sleep(_KILL_RETRY_S)
        else:
            return

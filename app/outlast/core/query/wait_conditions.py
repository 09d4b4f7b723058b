"""Conditions that a client can wait for: a process has ended, has printed a line, listens on a port, or is idle."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from outlast.core.query.matcher import Matcher
from outlast.core.query.output_cursor import FollowInterrupted, OutputQuery
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.output import Chunk, Stream
from outlast.model.process import Process

LOCAL_HOSTS = ("127.0.0.1", "::1")
_LOOK_S = 0.1
_CONNECT_S = 1.0
_LONGEST_LINE_BYTES = 1 << 20
_IDLE_CHECK_S = (0.02, 0.5)
"""Shortest and longest time between two checks for idleness."""


class WaitCondition(StrEnum):
    """Condition that a client waits for."""

    EXIT = "exit"
    OUTPUT = "output"
    PORT = "port"
    IDLE = "idle"


class NotMetReason(StrEnum):
    """Reason why a condition was not met. `ENDED`: the process has ended, so the condition cannot be met any more."""

    TIMEOUT = "timeout"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitQuery:
    """A condition with its parameters.

    Attributes:
        until: the condition.
        matcher: for `OUTPUT`, what a line must match.
        stream: for `OUTPUT` and `IDLE`, one stream; None: both.
        after: for `OUTPUT`, only lines after this sequence number.
        port: for `PORT`, the TCP port.
        idle_ms: for `IDLE`, how long nothing must be printed.
    """

    until: WaitCondition
    matcher: Matcher | None = None
    stream: Stream | None = None
    after: int = 0
    port: int = 0
    idle_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The line that was waited for, whole, with its terminator if it has one. `seq`: of its last part."""

    seq: int
    stream: Stream
    ts_ms: int
    data: bytes


class LineFinder:
    """Finds a line in chunks, also if it comes in parts: what is there of a line is looked at, at once."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._begun: dict[Stream, tuple[int, bytes]] = {}

    def find(self, chunk: Chunk) -> Line | None:
        """Return the first line of `chunk` that matches, with what was printed of it before."""
        run, begun = self._begun.pop(chunk.stream, (chunk.run, b""))
        if chunk.gap:
            return None
        if run != chunk.run or len(begun) >= _LONGEST_LINE_BYTES:
            begun = b""
        data = begun + chunk.data
        if self._matcher.may_match(data):
            for number, line in enumerate(_lines(data)):
                if self._matcher.matches(line.removesuffix(b"\n")):
                    seq = chunk.first_seq + number
                    return Line(seq=seq, stream=chunk.stream, ts_ms=chunk.ts_ms, data=line)
        rest = data[data.rfind(b"\n") + 1 :]
        if rest:
            self._begun[chunk.stream] = (chunk.run, rest)
        return None


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


async def line(chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher, looking: WorkerPool) -> Line | None:
    """Return the first line that matches, looked for in turns of `looking`. None: the output is over without one."""
    finder = LineFinder(matcher)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk is not None:
                with await looking.turn() as turn:
                    found = await turn.run(partial(finder.find, chunk))
                if found is not None:
                    return found
    return None


async def silence(chunks: AsyncGenerator[Chunk | None, None], idle_ms: int, last_ts_ms: int) -> bool:
    """Return when nothing has been printed for `idle_ms`: True. False: the output is over, and nothing more can come.

    Args:
        chunks: what is printed from now on; None at least every so often.
        idle_ms: how long the silence must be.
        last_ts_ms: when the last was printed before now, or when the process was started.
    """
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk is not None:
                last_ts_ms = max(last_ts_ms, chunk.ts_ms)
            if time.time_ns() // 1_000_000 - last_ts_ms >= idle_ms:
                return True
    return False


async def port(number: int, has_ended: Callable[[], bool]) -> bool:
    """Return when somebody on this machine takes connections on a TCP port: True. False: `has_ended` came first.

    What `has_ended` raises ends the wait, too.
    """
    while not await _is_open(number):
        if has_ended():
            return False
        await asyncio.sleep(_LOOK_S)
    return True


async def _is_open(number: int) -> bool:
    for host in LOCAL_HOSTS:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(host, number)
            writer.close()
            return True
    return False


class LineWaits(Protocol):
    """The part of `Queries` that a wait needs."""

    async def line(self, chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher) -> Line | None:
        """Wait for a line."""


class ProcessWatcher(Protocol):
    """The part of `ProcessManager` that a wait needs."""

    @property
    def queries(self) -> LineWaits:
        """Queries over the store."""

    @property
    def is_closing(self) -> bool:
        """Whether the daemon is shutting down."""

    def has_only_others(self, process: Process) -> bool:
        """Tell whether the process has ended for good and its output is stored."""

    async def ended(self, process: Process) -> None:
        """Wait until the process has ended."""

    def output(self, process: Process, query: OutputQuery) -> AsyncGenerator[Chunk, None]:
        """Read stored output."""

    def follow(self, process: Process, query: OutputQuery, *, heartbeat_s: float) -> AsyncGenerator[Chunk | None, None]:
        """Follow output."""


async def wait_until(
    query: WaitQuery, process: Process, watcher: ProcessWatcher, *, heartbeat_s: float
) -> Line | bool | None:
    """Wait until a condition is met: return the line of `OUTPUT`, or True.

    Args:
        query: the condition.
        process: the process.
        watcher: the process manager.
        heartbeat_s: maximum time between two checks for a shutdown of the daemon.

    Returns:
        False or None if the process has ended and the condition cannot be met any more.

    Raises:
        FollowInterrupted: the daemon is shutting down.
    """
    if query.until is WaitCondition.EXIT:
        await watcher.ended(process)
        return True
    if query.until is WaitCondition.OUTPUT and query.matcher is not None:
        where = OutputQuery(after=query.after, stream=query.stream)
        chunks = watcher.follow(process, where, heartbeat_s=heartbeat_s)
        return await watcher.queries.line(chunks, query.matcher)
    if query.until is WaitCondition.PORT:
        return await port(query.port, lambda: _has_ended(watcher, process))
    last_seq, last_ts_ms = 0, process.run.started_at_ms
    async for chunk in watcher.output(process, OutputQuery(tail=1, stream=query.stream)):
        last_seq, last_ts_ms = chunk.last_seq, chunk.ts_ms
    where = OutputQuery(after=last_seq, stream=query.stream)
    check_s = min(max(query.idle_ms / 4000, _IDLE_CHECK_S[0]), _IDLE_CHECK_S[1])
    return await silence(watcher.follow(process, where, heartbeat_s=check_s), query.idle_ms, last_ts_ms)


def _has_ended(watcher: ProcessWatcher, process: Process) -> bool:
    if watcher.is_closing:
        raise FollowInterrupted
    return watcher.has_only_others(process)

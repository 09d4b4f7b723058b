"""Conditions that a client can wait for: an end, a line, an open port, silence, health."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from outlast.core import local_port
from outlast.core.query.matcher import Matcher
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.output import Chunk, Stream

_PORT_INTERVAL_S = 0.1
_CONNECT_S = 1.0


class WaitCondition(StrEnum):
    """Condition that a client waits for."""

    EXIT = "exit"
    OUTPUT = "output"
    PORT = "port"
    IDLE = "idle"
    HEALTHY = "healthy"


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
    """A line that matches, whole, with its terminator if it has one. `seq`: sequence number of its last part."""

    seq: int
    stream: Stream
    ts_ms: int
    data: bytes


class LineFinder:
    """A search for a line in consecutive chunks. A line that comes in parts is tested with each part."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._unfinished: dict[Stream, bytes] = {}

    def lacks_parts(self, chunk: Chunk) -> bool:
        """Return whether `chunk` continues a line whose earlier parts the finder was not given."""
        return chunk.continues > 0 and chunk.stream not in self._unfinished

    def add_parts(self, stream: Stream, data: bytes) -> None:
        """Give the finder the parts of a stream's unfinished line that came before the first chunk."""
        self._unfinished[stream] = data

    def find(self, chunk: Chunk) -> Line | None:
        """Return the first line that matches and ends, or has a part, in `chunk`. Earlier parts are included."""
        unfinished = self._unfinished.pop(chunk.stream, b"")
        data = unfinished + chunk.data if chunk.continues else chunk.data
        if self._matcher.may_match(data):
            for number, line in enumerate(_lines(data)):
                if self._matcher.matches(line.removesuffix(b"\n")):
                    seq = chunk.first_seq + number
                    return Line(seq=seq, stream=chunk.stream, ts_ms=chunk.ts_ms, data=line)
        if chunk.ends_within_line:
            self._unfinished[chunk.stream] = data[data.rfind(b"\n") + 1 :]
        return None


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


async def wait_for_line(
    chunks: AsyncGenerator[Chunk | None, None],
    matcher: Matcher,
    workers: WorkerPool,
    earlier_parts: Callable[[Chunk], Awaitable[bytes]],
) -> Line | None:
    """Return the first line that matches, or None if the output ends without one.

    Args:
        chunks: the output.
        matcher: what the line must match.
        workers: where to search.
        earlier_parts: returns the parts before a chunk of the line that it continues.
    """
    finder = LineFinder(matcher)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk is not None:
                if finder.lacks_parts(chunk):
                    finder.add_parts(chunk.stream, await earlier_parts(chunk))
                with await workers.acquire() as lease:
                    found = await lease.run_in_thread(partial(finder.find, chunk))
                if found is not None:
                    return found
    return None


async def wait_for_silence(
    batches: AsyncGenerator[Sequence[Chunk] | None, None],
    idle_ms: int,
    silent_s: float,
    is_stored: Callable[[], bool],
) -> bool:
    """Return True when a process has printed nothing for `idle_ms`, or False if its output ends before.

    Args:
        batches: the output from now on: see `outlast.core.query.follow`.
        idle_ms: duration of the silence.
        silent_s: duration of the silence before now.
        is_stored: returns whether all output that has been read is stored, so that `batches` has brought it.
    """
    silent_since = time.monotonic() - silent_s
    async with contextlib.aclosing(batches):
        async for chunks in batches:
            if chunks:
                silent_since = time.monotonic()
            is_known = chunks is not None and is_stored()  # else the store can be neither read nor written
            if is_known and time.monotonic() - silent_since >= idle_ms / 1000:
                return True
    return False


async def wait_for_port(number: int, has_ended: Callable[[], bool]) -> bool:
    """Return True when a TCP port of this machine accepts connections, or False once `has_ended()` is true.

    Any error that `has_ended` raises is passed on.
    """
    while not await _is_open(number):
        if has_ended():
            return False
        await asyncio.sleep(_PORT_INTERVAL_S)
    return True


async def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):  # includes TimeoutError
        async with asyncio.timeout(_CONNECT_S):
            _, _, writer = await local_port.connect(number)
        writer.close()
        return True
    return False

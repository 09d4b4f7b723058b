"""Waiting until something is so of a process: it has ended, has printed this, listens there, or has fallen silent."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from outlast.core.query.matcher import Matcher
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.output import Chunk, Stream

LOCAL_HOSTS = ("127.0.0.1", "::1")
_LOOK_S = 0.1
_CONNECT_S = 1.0
_LONGEST_LINE_BYTES = 1 << 20


class WaitFor(StrEnum):
    """What is waited for."""

    EXIT = "exit"
    OUTPUT = "output"
    PORT = "port"
    IDLE = "idle"


class NotMet(StrEnum):
    """Why something did not come to be so."""

    TIMEOUT = "timeout"
    ENDED = "ended"


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

"""Reading a process's output: a cursor over what is stored. History and live are the same loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from outlast.core.output.chunk_cache import ChunkCache
from outlast.model.errors import StorageUnavailable
from outlast.model.output import Chunk, Stream
from outlast.storage import Storage

_READ_BYTES = 1 << 20
_FOLLOW_READ_BYTES = 256 << 10  # many may follow, each with what it has just read
_UNTIL_GRACE_MS = 1000
_READ_AGAIN_S = 0.5
_LEAST_READ_S = 1.0


class Source(Protocol):
    """What a process that may still print tells its followers: a run, or a managed process over all of its runs."""

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""

    @property
    def finished(self) -> bool:
        """Nothing more will come, and all is stored."""

    async def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `until()` holds. False: timed out."""

    def wake(self) -> None:
        """Let everybody who waits look again."""


class FollowInterrupted(Exception):
    """The daemon is shutting down: the stream ends here, and can be resumed at the next daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputQuery:
    """Which lines. Bounds combine.

    Attributes:
        stream: only this one, else both.
        after: only lines with a greater sequence number.
        tail: only the last so many of what is stored when the reading begins, and what comes after them.
        since_ms: only lines read at this time or later.
        until_ms: only lines read at this time or earlier.
    """

    stream: Stream | None = None
    after: int = 0
    tail: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Cursor:
    """One reader of one process. It holds a sequence number and nothing else between two reads."""

    def __init__(
        self,
        storage: Storage,
        recent: ChunkCache,
        handle: int,
        live: Source | None,
        query: OutputQuery,
    ) -> None:
        self._storage = storage
        self._recent = recent
        self._handle = handle
        self._live = live
        self._query = query
        self._seq = query.after
        self._at_tail = query.tail is None
        self._wants_all = query.stream is None and query.since_ms is None and query.until_ms is None
        self._closing = False

    def interrupt(self) -> None:
        """Make `follow` raise `FollowInterrupted` at its next step."""
        self._closing = True
        if self._live is not None:
            self._live.wake()

    async def stored(self) -> AsyncGenerator[Chunk, None]:
        """Yield what is stored now.

        Raises:
            StorageUnavailable: the store can't be read now.
        """
        while chunks := await self._read(_READ_BYTES):
            for chunk in chunks:
                yield chunk

    async def follow(self, heartbeat_s: float) -> AsyncGenerator[Sequence[Chunk], None]:
        """Yield what is stored, then what comes, to the end of the process's output.

        While the store can't be read, it is asked again and again: whoever follows keeps the connection.

        Yields:
            Chunks in order, some at a time; none when nothing came for `heartbeat_s`.

        Raises:
            FollowInterrupted: the daemon is shutting down.
        """
        live = self._live
        quiet_since = time.monotonic()
        while True:
            # Both are taken before the read: what is committed after them is found by the next round.
            finished = live is None or live.finished
            known = live.last_seq if live is not None else 0
            if self._closing:
                raise FollowInterrupted
            chunks = self._recall(_FOLLOW_READ_BYTES)
            if chunks is None:
                chunks = await self._read_in(quiet_since + heartbeat_s - time.monotonic())
            if chunks:
                yield chunks
                quiet_since = time.monotonic()
                continue
            if chunks is not None:
                self._seq = max(self._seq, known)  # nothing up to there is wanted: don't search it again
                if finished or live is None or self._is_past_until():
                    return
                await live.wait(
                    lambda: live.finished or live.last_seq > known or self._closing,  # noqa: B023 - awaited at once
                    self._patience_s(quiet_since + heartbeat_s - time.monotonic()),
                )
            # Not "if nothing moved": lines of the other stream move the process, and this follower gets none of them.
            if time.monotonic() >= quiet_since + heartbeat_s:
                yield ()
                quiet_since = time.monotonic()

    async def _read_in(self, timeout_s: float) -> Sequence[Chunk] | None:
        """Read as `_read` does, within about `timeout_s`. None: it can't be done now."""
        try:
            async with asyncio.timeout(max(timeout_s, _LEAST_READ_S)):
                return await self._read(_FOLLOW_READ_BYTES)
        except TimeoutError:
            return None
        except StorageUnavailable:
            await asyncio.sleep(_READ_AGAIN_S)
            return None

    async def _read(self, max_bytes: int) -> Sequence[Chunk]:
        """Return the next chunks that are wanted; none: there are none now."""
        query = self._query
        if not self._at_tail:
            self._seq = max(self._seq, await self._storage.tail(self._handle, query.tail or 0, stream=query.stream))
            self._at_tail = True
        while True:
            recalled = self._recall(max_bytes)
            if recalled is not None:
                return recalled
            chunks = await self._storage.chunks(
                self._handle,
                after_seq=self._seq,
                max_bytes=max_bytes,
                stream=query.stream,
                since_ms=query.since_ms,
                until_ms=query.until_ms,
            )
            if not chunks:
                return ()
            wanted = self._take(chunks)
            if wanted:
                return wanted

    def _recall(self, max_bytes: int) -> Sequence[Chunk] | None:
        """Return what `_read` would, if it is in memory; None: the store has to be asked."""
        if not self._at_tail:
            return None
        while chunks := self._recent.read(self._handle, after_seq=self._seq, max_bytes=max_bytes):
            wanted = self._take(chunks)
            if wanted:
                return wanted
        return chunks

    def _take(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Go on behind `chunks`, and return what is wanted of them."""
        after, self._seq = self._seq, chunks[-1].last_seq
        if chunks[0].first_seq <= after:
            chunks = (chunks[0].after(after), *chunks[1:])
        return chunks if self._wants_all else [chunk for chunk in chunks if self._wants(chunk)]

    def _wants(self, chunk: Chunk) -> bool:
        query = self._query
        return (
            (query.stream is None or chunk.stream is query.stream)
            and (query.since_ms is None or chunk.ts_ms >= query.since_ms)
            and (query.until_ms is None or chunk.ts_ms <= query.until_ms)
        )

    def _is_past_until(self) -> bool:
        """Nothing that will be read from now on can be wanted, and what was read before is stored by now."""
        until_ms = self._query.until_ms
        return until_ms is not None and _now_ms() > until_ms + _UNTIL_GRACE_MS

    def _patience_s(self, at_most_s: float) -> float:
        until_ms = self._query.until_ms
        if until_ms is None:
            return at_most_s
        return min(at_most_s, max(0.0, (until_ms + _UNTIL_GRACE_MS + 1 - _now_ms()) / 1000))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Reading a process's output: a cursor over what is stored and, for followers, what is about to be stored."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.query.follow import follow
from outlast.model.clock import now_ms
from outlast.model.errors import NotFound
from outlast.model.output import Chunk, ChunkQuery, Stream, TrimGap
from outlast.storage import Storage

_READ_BYTES = 1 << 20
_FOLLOW_READ_BYTES = 256 << 10  # each of many followers holds what it has just read
_OVER_S = 0.001  # a wait of exactly the time that is left may end a moment too early
_UNTIL_GRACE_MS = 1000
"""How long after `until_ms` lines that were read before it may still be on their way to the store."""


class Source(Protocol):
    """A process that may still print: one run, or a managed process over all of its runs."""

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line or gap that followers may see."""

    @property
    def stored_seq(self) -> int:
        """Sequence number of the last line or gap that is stored."""

    @property
    def finished(self) -> bool:
        """Whether all output is stored, and none can come."""

    async def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """See `Condition.wait`."""

    def wake(self) -> None:
        """See `Condition.wake`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputQuery:
    """Which lines to read. Conditions combine.

    Attributes:
        stream: only this stream; None means both.
        after: only lines with a greater sequence number.
        tail: of the lines that are stored when the reading begins, only the last `tail`; and all that come later.
        since_ms: only lines read from the process at this time or later.
        until_ms: only lines read from the process at this time or earlier.
        over_at: when `until_ms` is over and its lines are stored, by the monotonic clock; None: it is computed at once.
    """

    stream: Stream | None = None
    after: int = 0
    tail: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    over_at: float | None = field(default=None, compare=False)

    def fix_end(self) -> "OutputQuery":
        """Return the query with `over_at`, so that a reading in several steps ends when it should."""
        if self.until_ms is None or self.over_at is not None:
            return self
        return replace(self, over_at=time.monotonic() + (self.until_ms + _UNTIL_GRACE_MS - now_ms()) / 1000)


class Cursor:
    """A reader of one process's output. Between two reads it holds a sequence number and no output.

    It is a `Reader` of `outlast.core.query.follow`, whose loop `follow` runs.
    """

    def __init__(
        self,
        storage: Storage,
        chunk_cache: ChunkCache,
        handle: int,
        source: Source | None,
        query: OutputQuery,
        *,
        whole_lines: bool = False,
    ) -> None:
        """Prepare to read.

        Args:
            storage: the store.
            chunk_cache: the newest chunks.
            handle: handle of the process.
            source: the process, if it may still print.
            query: which lines to read.
            whole_lines: join the parts of each line, for `stored`: see `ChunkQuery`. A follower gets each part when it
                comes.
        """
        self._storage = storage
        self._chunk_cache = chunk_cache
        self._handle = handle
        self._source = source
        self._query = query = query.fix_end()
        self._whole_lines = whole_lines
        self._seq = query.after
        self._at_tail = query.tail is None
        self._wants_all = query.stream is None and query.since_ms is None and query.until_ms is None
        self._was_finished = False
        self._marked_seq = 0
        self.is_interrupted = False

    def interrupt(self) -> None:
        """End `follow` with `FollowInterrupted` at its next step."""
        self.is_interrupted = True
        if self._source is not None:
            self._source.wake()

    async def stored(self) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks that are stored now.

        Raises:
            StorageUnavailable: the store cannot be read now.
            NotFound: the process was purged, perhaps before all of its output was read.
        """
        await self._find_tail()
        while chunks := await self._read_stored(_READ_BYTES):
            for chunk in self._advance_past(chunks):
                yield chunk
        if await self._storage.process(self._handle) is None:
            raise NotFound("the process was purged while its output was read")

    def follow(self, heartbeat_s: float) -> AsyncGenerator[Sequence[Chunk] | None, None]:
        """Yield the chunks that are there, then those that come, to the end of the process's output. See `follow`."""
        return follow(self, heartbeat_s)

    def mark(self) -> None:
        """See `Reader`."""
        source = self._source
        self._was_finished = source is None or source.finished
        self._marked_seq = source.last_seq if source is not None else 0

    def read_cached(self) -> Sequence[Chunk] | None:
        """See `Reader`."""
        return self._read_cached(_FOLLOW_READ_BYTES)

    async def read(self) -> Sequence[Chunk]:
        """See `Reader`."""
        return await self._read(_FOLLOW_READ_BYTES)

    def is_over(self) -> bool:
        """See `Reader`."""
        return self._was_finished or self._is_past_until()

    async def wait(self, timeout_s: float) -> None:
        """See `Reader`."""
        source = self._source
        if source is not None:
            # No line up to the mark is wanted: don't search the store for them again.
            self._seq = max(self._seq, min(self._marked_seq, source.stored_seq))
            await source.wait(
                lambda: source.finished or source.last_seq > self._marked_seq or self.is_interrupted,
                self._limit_wait(timeout_s),
            )

    async def _read(self, max_bytes: int) -> Sequence[Chunk]:
        """Return the next chunks that are wanted, and advance behind them."""
        await self._find_tail()
        while True:
            cached = self._read_cached(max_bytes)
            if cached is not None:
                return cached
            stored_seq, last_seq = self._ends()
            chunks = await self._read_stored(max_bytes)
            if chunks:
                wanted = self._advance_past(chunks)
                if wanted:
                    return wanted
            elif self._seq >= stored_seq or stored_seq == last_seq:
                return ()
            else:  # nothing up to there is wanted; the rest is in the cache, if it was not stored meanwhile
                self._seq = stored_seq

    def _ends(self) -> tuple[int, int]:
        """Return the numbers of the last line that is stored, and that followers may see."""
        return (0, 0) if self._source is None else (self._source.stored_seq, self._source.last_seq)

    async def _find_tail(self) -> None:
        if not self._at_tail:
            query = self._query
            self._seq = max(self._seq, await self._storage.tail(self._handle, query.tail or 0, stream=query.stream))
            self._at_tail = True

    async def _read_stored(self, max_bytes: int) -> Sequence[Chunk]:
        query = self._query
        return await self._storage.chunks(
            ChunkQuery(
                handle=self._handle,
                after_seq=self._seq,
                max_bytes=max_bytes,
                stream=query.stream,
                since_ms=query.since_ms,
                until_ms=query.until_ms,
                whole_lines=self._whole_lines,
                seen_seq=query.after,
            )
        )

    def _read_cached(self, max_bytes: int) -> Sequence[Chunk] | None:
        """Return what `_read` would, if it is in the cache; None if the store has to be read."""
        if not self._at_tail or self._whole_lines:  # the cache may lack a line's other parts
            return None
        while chunks := self._chunk_cache.read_chunks(self._handle, after_seq=self._seq, max_bytes=max_bytes):
            wanted = self._advance_past(chunks)
            if wanted:
                return wanted
        return chunks

    def _advance_past(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Advance behind `chunks`, and return those of them that are wanted."""
        after, self._seq = self._seq, chunks[-1].last_seq
        if chunks[0].first_seq <= after:
            chunks = (chunks[0].after(after), *chunks[1:])
        return chunks if self._wants_all else [chunk for chunk in chunks if self._wants(chunk)]

    def _wants(self, chunk: Chunk) -> bool:
        query = self._query
        return isinstance(chunk, TrimGap) or (
            (query.stream is None or chunk.stream is query.stream)
            and (query.since_ms is None or chunk.ts_ms >= query.since_ms)
            and (query.until_ms is None or chunk.ts_ms <= query.until_ms)
        )

    def _is_past_until(self) -> bool:
        """Return whether every line up to `until_ms` is stored by now."""
        over_at = self._query.over_at
        return over_at is not None and time.monotonic() > over_at

    def _limit_wait(self, timeout_s: float) -> float:
        """Return `timeout_s`, or the time until `until_ms` is past if that is shorter."""
        over_at = self._query.over_at
        if over_at is None:
            return timeout_s
        return min(timeout_s, max(0.0, over_at - time.monotonic() + _OVER_S))

"""The newest chunks of the processes that print, shared by all their followers."""

from bisect import bisect_right
from collections import OrderedDict, deque

from outlast.model.output import Chunk

PROCESS_BYTES = 2 << 20
TOTAL_BYTES = 64 << 20
# Memory that Python takes besides the data: for a chunk of one short line, most of it.
_CHUNK_OVERHEAD_BYTES = 320
_PROCESS_OVERHEAD_BYTES = 900


class ChunkCache:
    """The chunks that followers may see, and that the store does not have yet; before them, the newest stored ones.

    Stored chunks are limited per process and in total; the process of which nothing was stored for longest is evicted
    first. The others are in the committer's queue anyway.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, deque[Chunk]] = {}
        self._unstored: dict[int, int] = {}
        self._stored_bytes: OrderedDict[int, int] = OrderedDict()
        self._total_bytes = 0
        self._last_read: tuple[tuple[int, int, int, int], list[Chunk]] | None = None

    def append_chunk(self, chunk: Chunk) -> None:
        """Add the next chunk of its process, which is not stored."""
        chunks = self._chunks.get(chunk.handle)
        if chunks is None:
            chunks = self._chunks[chunk.handle] = deque()
        chunks.append(chunk)
        self._unstored[chunk.handle] = self._unstored.get(chunk.handle, 0) + 1

    def note_stored(self, handle: int) -> None:
        """Note that the next chunk of a process is stored."""
        unstored = self._unstored.get(handle, 0)
        if not unstored:
            return  # the process was evicted
        chunks = self._chunks[handle]
        self._set_unstored(handle, unstored - 1)
        if handle not in self._stored_bytes:
            self._grow(handle, _PROCESS_OVERHEAD_BYTES)
        self._stored_bytes.move_to_end(handle)
        self._grow(handle, _cost(chunks[-unstored]))
        while self._stored_bytes[handle] > PROCESS_BYTES and len(chunks) > unstored:
            self._grow(handle, -_cost(chunks.popleft()))
        while self._total_bytes > TOTAL_BYTES:
            self._evict_stored(next(iter(self._stored_bytes)))

    def drop_unstored(self, handle: int) -> None:
        """Drop the chunks of a process that are not stored."""
        self._last_read = None
        for _ in range(self._unstored.pop(handle, 0)):
            self._chunks[handle].pop()

    def evict(self, handle: int) -> None:
        """Evict all chunks of a process."""
        self._last_read = None
        self._unstored.pop(handle, None)
        self._evict_stored(handle)
        self._chunks.pop(handle, None)

    def forget(self, handle: int, upto_seq: int) -> None:
        """Forget a process's stored chunks that end at or before a line."""
        chunks = self._chunks.get(handle, deque())
        while len(chunks) > self._unstored.get(handle, 0) and chunks[0].last_seq <= upto_seq:
            self._grow(handle, -_cost(chunks.popleft()))
        if not chunks:
            self.evict(handle)

    def read_chunks(self, handle: int, *, after_seq: int, max_bytes: int) -> list[Chunk] | None:
        """Return the whole chunks that have lines after `after_seq`, limited as by `Storage.chunks`.

        Followers that keep up read the same one after the other, and get the same list.

        Returns:
            None if the first of these lines is not in the cache.
        """
        chunks = self._chunks.get(handle)
        if not chunks or after_seq + 1 < chunks[0].first_seq:
            return None
        key = (handle, after_seq, max_bytes, chunks[-1].first_seq)
        if self._last_read is None or self._last_read[0] != key:
            self._last_read = key, self._find_chunks(chunks, after_seq, max_bytes)
        return self._last_read[1]

    def _find_chunks(self, chunks: deque[Chunk], after_seq: int, max_bytes: int) -> list[Chunk]:
        found: list[Chunk] = []
        size = 0
        start = bisect_right(chunks, after_seq, key=_last_seq)
        for index in range(start, len(chunks)):
            found.append(chunks[index])
            size += len(chunks[index].data)
            if size >= max_bytes:
                break
        return found

    def _evict_stored(self, handle: int) -> None:
        if handle in self._stored_bytes:
            self._total_bytes -= self._stored_bytes.pop(handle)
            chunks = self._chunks[handle]
            while len(chunks) > self._unstored.get(handle, 0):
                chunks.popleft()
            if not chunks:
                del self._chunks[handle]

    def _set_unstored(self, handle: int, count: int) -> None:
        if count:
            self._unstored[handle] = count
        else:
            del self._unstored[handle]

    def _grow(self, handle: int, count: int) -> None:
        self._stored_bytes[handle] = self._stored_bytes.get(handle, 0) + count
        self._total_bytes += count


def _cost(chunk: Chunk) -> int:
    return len(chunk.data) + _CHUNK_OVERHEAD_BYTES


def _last_seq(chunk: Chunk) -> int:
    return chunk.last_seq

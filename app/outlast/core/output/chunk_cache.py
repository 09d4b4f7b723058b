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
    """Committed chunks in memory, limited per process and in total. The process quiet for longest is evicted first."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[int, deque[Chunk]] = OrderedDict()
        self._bytes: dict[int, int] = {}
        self._total_bytes = 0

    def append_chunk(self, chunk: Chunk) -> None:
        """Add the next chunk of its process."""
        chunks = self._chunks.get(chunk.handle)
        if chunks is None:
            chunks = self._chunks[chunk.handle] = deque()
            self._grow(chunk.handle, _PROCESS_OVERHEAD_BYTES)
        self._chunks.move_to_end(chunk.handle)
        chunks.append(chunk)
        self._grow(chunk.handle, _cost(chunk))
        while self._bytes[chunk.handle] > PROCESS_BYTES and len(chunks) > 1:
            self._grow(chunk.handle, -_cost(chunks.popleft()))
        while self._total_bytes > TOTAL_BYTES:
            self.evict(next(iter(self._chunks)))

    def evict(self, handle: int) -> None:
        """Evict a process's chunks."""
        if self._chunks.pop(handle, None) is not None:
            self._total_bytes -= self._bytes.pop(handle)

    def forget(self, handle: int, upto_seq: int) -> None:
        """Forget a process's chunks that end at or before a line."""
        chunks = self._chunks.get(handle)
        while chunks and chunks[0].last_seq <= upto_seq:
            size = _cost(chunks.popleft())
            self._grow(handle, -size)
        if chunks is not None and not chunks:
            self.evict(handle)

    def read_chunks(self, handle: int, *, after_seq: int, max_bytes: int) -> list[Chunk] | None:
        """Return the whole chunks that have lines after `after_seq`, limited as by `Storage.chunks`.

        Returns:
            None if the first of these lines is not in the cache.
        """
        chunks = self._chunks.get(handle)
        if not chunks or after_seq + 1 < chunks[0].first_seq:
            return None
        found: list[Chunk] = []
        size = 0
        start = bisect_right(chunks, after_seq, key=_last_seq)
        for index in range(start, len(chunks)):
            found.append(chunks[index])
            size += len(chunks[index].data)
            if size >= max_bytes:
                break
        return found

    def _grow(self, handle: int, count: int) -> None:
        self._bytes[handle] = self._bytes.get(handle, 0) + count
        self._total_bytes += count


def _cost(chunk: Chunk) -> int:
    return len(chunk.data) + _CHUNK_OVERHEAD_BYTES


def _last_seq(chunk: Chunk) -> int:
    return chunk.last_seq

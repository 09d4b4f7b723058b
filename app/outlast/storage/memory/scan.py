"""Output of all processes in the storage in memory, in the order in which it was stored."""

from collections.abc import Callable, Iterable

from outlast.model.output import Chunk
from outlast.model.process import Order
from outlast.model.scan import ScanPage, ScanQuery


class Written:
    """All chunks, in the places that they got when they were stored. None: it is deleted."""

    def __init__(self) -> None:
        self._chunks: list[Chunk | None] = []

    def add(self, chunk: Chunk) -> int:
        """Append a chunk that was stored, and return its place, from 1 on."""
        self._chunks.append(chunk)
        return len(self._chunks)

    def forget(self, places: Iterable[int]) -> None:
        """Delete the chunks at some places."""
        for place in places:
            self._chunks[place - 1] = None

    def scan(self, scan: ScanQuery, whole_lines: Callable[[Chunk], Chunk | None]) -> ScanPage:
        """Implement `Storage.scan`. The position of a chunk is its place in the list, from 1 on.

        `whole_lines` returns a chunk with its lines whole; None if none is left, or the process is purged.
        """
        if scan.order is Order.NEWEST:
            first = len(self._chunks) if scan.position is None else min(scan.position - 1, len(self._chunks))
            places = range(first, max(0, first - scan.max_chunks), -1)
        else:
            first = (scan.position or 0) + 1
            places = range(first, min(len(self._chunks) + 1, first + scan.max_chunks))
        found: list[tuple[int, Chunk]] = []
        size = 0
        for place in places:
            stored = self._chunks[place - 1]
            chunk = whole_lines(stored) if stored is not None and _is_wanted(stored, scan) else None
            if chunk is not None:
                found.append((place, chunk))
                size += len(chunk.data)
                if size >= scan.max_bytes:
                    return ScanPage(chunks=found, position=place)
        return ScanPage(chunks=found, position=places[-1] if len(places) == scan.max_chunks else None)


def _is_wanted(chunk: Chunk, scan: ScanQuery) -> bool:
    return (
        chunk.gap is None
        and (scan.handle is None or chunk.handle == scan.handle)
        and (scan.stream is None or chunk.stream is scan.stream)
        and (scan.since_ms is None or chunk.ts_ms >= scan.since_ms)
        and (scan.until_ms is None or chunk.ts_ms <= scan.until_ms)
    )

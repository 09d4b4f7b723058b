"""Output of all processes in the storage in memory, in the order in which it was stored."""

from collections.abc import Callable

from outlast.model.output import Chunk
from outlast.model.process import Order
from outlast.model.scan import ScanPage, ScanQuery


class Written:
    """All chunks that were ever stored. Chunks of purged processes stay, but are not returned."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._first_kept = 0

    def add(self, chunk: Chunk) -> None:
        """Append a chunk that was stored."""
        self._chunks.append(chunk)

    def oldest_ms(self, is_stored: Callable[[int], bool]) -> int | None:
        """Return the time of the first chunk whose process is not purged. `is_stored` tells that of a handle."""
        while self._first_kept < len(self._chunks) and not is_stored(self._chunks[self._first_kept].handle):
            self._first_kept += 1
        return self._chunks[self._first_kept].ts_ms if self._first_kept < len(self._chunks) else None

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
            chunk = whole_lines(self._chunks[place - 1]) if _is_wanted(self._chunks[place - 1], scan) else None
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

"""A followed output as the bytes that were written: events show bytes that are not UTF-8 as U+FFFD."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from outlast.client import Gap, Line, Process

_REPLACED = "\N{REPLACEMENT CHARACTER}"


class ExactLines:
    """Lines of one process as bytes. A line that may hold others than it shows is read from the store when it ends."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._held: dict[str, int] = {}

    def pieces(self, items: Iterable[Line]) -> Iterator[tuple[str, bytes]]:
        """Yield stream and bytes of lines that have come at once. Of each stream, all that follow are read at once."""
        for stream, group in groupby(items, key=lambda line: line.stream):
            lines = list(group)
            if self._can_read_at_once(stream, lines):
                yield stream, self._read(stream, lines[0].seq, len(lines))
            else:
                yield stream, b"".join(map(self.bytes_of, lines))

    def bytes_of(self, item: Line | Gap) -> bytes:
        """Return the bytes of an item; nothing if the rest of the line is waited for."""
        if isinstance(item, Gap):
            if item.stream is None:  # of both streams, as far as is known: what was waited for may be deleted
                self._held.clear()
            return b""
        if _REPLACED not in item.text and item.stream not in self._held:
            return f"{item.text}\n".encode() if item.complete else item.text.encode()
        first = self._held.setdefault(item.stream, item.seq)
        if not item.complete:
            return b""
        del self._held[item.stream]
        return self._read(item.stream, first, 1)

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """Yield stream and bytes of what was waited for, at the end of the output."""
        for stream, first in self._held.items():
            yield stream, self._read(stream, first, 1)
        self._held.clear()

    def _can_read_at_once(self, stream: str, lines: Sequence[Line]) -> bool:
        return (
            stream not in self._held
            and all(line.complete for line in lines)
            and any(_REPLACED in line.text for line in lines)
        )

    def _read(self, stream: str, first: int, lines: int) -> bytes:
        return b"".join(self._process.byte_chunks(stream, after=first - 1, limit=lines))

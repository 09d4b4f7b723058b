"""A followed output as the bytes that were written: events show bytes that are not UTF-8 as U+FFFD."""

from collections.abc import Iterator

from outlast.client import Gap, Line, Process

_REPLACED = "\N{REPLACEMENT CHARACTER}"


class ExactLines:
    """Lines of one process as bytes. A line that may hold others than it shows is read from the store when it ends."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._held: dict[str, int] = {}

    def bytes_of(self, item: Line | Gap) -> bytes:
        """Return the bytes of an item; nothing if the rest of the line is waited for."""
        if isinstance(item, Gap):
            return b""
        if _REPLACED not in item.text and item.stream not in self._held:
            return f"{item.text}\n".encode() if item.complete else item.text.encode()
        first = self._held.setdefault(item.stream, item.seq)
        if not item.complete:
            return b""
        del self._held[item.stream]
        return self._read(item.stream, first)

    def rest(self) -> Iterator[bytes]:
        """Yield what was waited for, at the end of the output."""
        for stream, first in self._held.items():
            yield self._read(stream, first)
        self._held.clear()

    def _read(self, stream: str, first: int) -> bytes:
        return b"".join(self._process.byte_chunks(stream, after=first - 1, limit=1))

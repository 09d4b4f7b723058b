r"""Whole lines: parts of a line are joined, and lines that do not match are left out.

The type of `lines` is bytes: any number of lines, each with its "\n"; the last may lack it.
"""

from collections.abc import Iterator, Sequence

from outlast.model.output import Chunk, Stream, count_lines, split_lines

LONG_LINE_BYTES = 1024 * 1024
"""Size at which parts of a line are no longer joined."""


class LineJoiner:
    """Joiner of a part of a line with its rest, which may come after lines of the other stream.

    The joiner keeps one unfinished line of each stream, of at most `LONG_LINE_BYTES`. A joined line comes where its
    last part is.
    """

    def __init__(self) -> None:
        self._open: dict[Stream, _OpenLine] = {}

    def join(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the lines that `chunk` completes. A gap completes a line, too: what follows is not its rest."""
        open_line = self._open.get(chunk.stream)
        if open_line is not None and (open_line.run != chunk.run or chunk.gap):
            yield self._pop_line(chunk.stream)  # the rest of this line is missing, or there is none
            open_line = None
        cut = chunk.data.rfind(b"\n") + 1
        if cut:
            whole = chunk.data[:cut]
            yield whole if open_line is None else self._pop_line(chunk.stream) + whole
        if cut < len(chunk.data):
            open_line = self._open.setdefault(chunk.stream, _OpenLine(chunk.run, chunk.first_seq))
            open_line.append(chunk.data[cut:])
            if open_line.size_bytes >= LONG_LINE_BYTES:
                yield self._pop_line(chunk.stream)

    @property
    def open_seq(self) -> int | None:
        """Sequence number of the first part of an unfinished line, or None."""
        return min((line.seq for line in self._open.values()), default=None)

    def rest(self) -> Iterator[bytes]:
        """Yield the unfinished lines, oldest first."""
        for stream in sorted(self._open, key=lambda stream: self._open[stream].seq):
            yield self._pop_line(stream)

    def _pop_line(self, stream: Stream) -> bytes:
        return b"".join(self._open.pop(stream).parts)


class _OpenLine:
    def __init__(self, run: int, seq: int) -> None:
        self.run = run
        self.seq = seq
        self.parts: list[bytes] = []
        self.size_bytes = 0

    def append(self, part: bytes) -> None:
        self.parts.append(part)
        self.size_bytes += len(part)


class LineFilter:
    """Filter that passes lines which contain `needle`, up to `limit` of them. None: no such condition."""

    def __init__(self, needle: bytes | None, limit: int | None) -> None:
        self._needle = needle
        self._left = limit
        self.passes_all = needle is None and limit is None

    @property
    def full(self) -> bool:
        """Whether no more lines will pass."""
        return self._left == 0

    def filter(self, lines: bytes) -> bytes:
        """Return the lines that pass the filter."""
        if self.passes_all:
            return lines
        return self.filter_numbered(lines, range(count_lines(lines)))[0]

    def filter_numbered(self, lines: bytes, numbers: Sequence[int]) -> tuple[bytes, Sequence[int]]:
        """Return the lines that pass the filter, and their numbers."""
        if self._needle is not None:
            lines, numbers = _matching(self._needle, lines, numbers)
        if self._left is None:
            return lines, numbers
        if len(numbers) > self._left:
            numbers = numbers[: self._left]
            lines = b"".join(split_lines(lines)[: self._left])
        self._left -= len(numbers)
        return lines, numbers


def _matching(needle: bytes, lines: bytes, numbers: Sequence[int]) -> tuple[bytes, Sequence[int]]:
    if needle not in lines:
        return b"", ()
    found = [(line, number) for line, number in zip(split_lines(lines), numbers, strict=True) if needle in line]
    return b"".join(line for line, _ in found), [number for _, number in found]

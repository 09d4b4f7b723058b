r"""Lines as a reader means them: parts joined, those that do not match left out.

"Lines" here are bytes that hold any number of lines; each ends with "\n", but perhaps not the last.
"""

from collections.abc import Iterator, Sequence

from outlast.model.output import Chunk, Stream, count_lines, split_lines

LONG_LINE_BYTES = 1024 * 1024  # a line this long comes in parts of this size and stays so


class LineJoiner:
    """Joins a part of a line with its rest, which may come after lines of the other stream.

    It remembers one unfinished line a stream, of `LONG_LINE_BYTES` at most. A joined line stands where its
    end is.
    """

    def __init__(self) -> None:
        self._open: dict[Stream, _OpenLine] = {}

    def add(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the lines that `chunk` ends. A gap ends one, too: what comes behind it is not its rest."""
        open_line = self._open.get(chunk.stream)
        if open_line is not None and (open_line.run != chunk.run or chunk.gap):
            yield self._take(chunk.stream)  # what could have ended this line is over, or missing
            open_line = None
        cut = chunk.data.rfind(b"\n") + 1
        if cut:
            whole = chunk.data[:cut]
            yield whole if open_line is None else self._take(chunk.stream) + whole
        if cut < len(chunk.data):
            open_line = self._open.setdefault(chunk.stream, _OpenLine(chunk.run, chunk.first_seq))
            open_line.add(chunk.data[cut:])
            if open_line.size_bytes >= LONG_LINE_BYTES:
                yield self._take(chunk.stream)

    def rest(self) -> Iterator[bytes]:
        """Yield the lines that have no end, oldest first."""
        for stream in sorted(self._open, key=lambda stream: self._open[stream].seq):
            yield self._take(stream)

    def _take(self, stream: Stream) -> bytes:
        return b"".join(self._open.pop(stream).parts)


class _OpenLine:
    def __init__(self, run: int, seq: int) -> None:
        self.run = run
        self.seq = seq
        self.parts: list[bytes] = []
        self.size_bytes = 0

    def add(self, part: bytes) -> None:
        self.parts.append(part)
        self.size_bytes += len(part)


class LineFilter:
    """Lets lines pass that contain `needle`, until `limit` have passed. None: no such condition."""

    def __init__(self, needle: bytes | None, limit: int | None) -> None:
        self._needle = needle
        self._left = limit
        self.passes_all = needle is None and limit is None

    @property
    def full(self) -> bool:
        """Whether no more lines will pass."""
        return self._left == 0

    def filter(self, lines: bytes) -> bytes:
        """Return the lines that pass."""
        if self.passes_all:
            return lines
        return self.filter_numbered(lines, range(count_lines(lines)))[0]

    def filter_numbered(self, lines: bytes, numbers: Sequence[int]) -> tuple[bytes, Sequence[int]]:
        """Return the lines that pass, and their part of `numbers`."""
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

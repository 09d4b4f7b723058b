r"""Lines for readers: parts of a line are joined, and lines that do not match are left out.

The type of `lines` is bytes: any number of lines, each with its "\n"; the last may lack it.
"""

from collections.abc import Sequence

from outlast.core.query.matcher import Matcher
from outlast.model.output import Chunk, count_lines, split_lines


class LineJoiner:
    """Joiner of the parts of each line, in the chunks of one stream. It keeps one unfinished line.

    Attributes:
        open_seq: sequence number of the first part of the unfinished line; None: there is none.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.open_seq: int | None = None

    def join(self, chunk: Chunk) -> bytes:
        """Return the lines that `chunk` completes. If it continues no line, `finish` must have been called."""
        cut = chunk.data.rfind(b"\n") + 1
        lines = b""
        if cut:
            lines = b"".join([*self._parts, chunk.data[:cut]])
            self._parts = []
            self.open_seq = None
        if cut < len(chunk.data):
            if self.open_seq is None:
                self.open_seq = chunk.last_seq
            self._parts.append(chunk.data[cut:])
        return lines

    def finish(self) -> bytes:
        """Return the unfinished line, whose rest will not come; nothing if there is none."""
        line = b"".join(self._parts)
        self._parts = []
        self.open_seq = None
        return line


class LineFilter:
    """Filter that passes lines which match, up to `limit` of them. None: no such condition."""

    def __init__(self, matcher: Matcher | None, limit: int | None) -> None:
        self.matcher = matcher
        self._left = limit
        self.passes_all = matcher is None and limit is None

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
        if self.matcher is not None:
            lines, numbers = _matching(self.matcher, lines, numbers)
        if self._left is None:
            return lines, numbers
        if len(numbers) > self._left:
            numbers = numbers[: self._left]
            lines = b"".join(split_lines(lines)[: self._left])
        self._left -= len(numbers)
        return lines, numbers


def _matching(matcher: Matcher, lines: bytes, numbers: Sequence[int]) -> tuple[bytes, Sequence[int]]:
    if not matcher.may_match(lines):
        return b"", ()
    found = [
        (line, number)
        for line, number in zip(split_lines(lines), numbers, strict=True)
        if matcher.matches(line.removesuffix(b"\n"))
    ]
    return b"".join(line for line, _ in found), [number for _, number in found]

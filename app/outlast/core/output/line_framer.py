r"""Cutting a stream of bytes into blocks of whole lines.

A block is cut at its last "\n"; single lines are examined only if one is longer than the limit.
"""

MAX_LINE_BYTES = 1 << 20
"""Maximum bytes of a line, without its terminator. Longer lines are cut into parts."""

_LONGEST_CHARACTER = 4


class LineFramer:
    r"""A framer of one stream: it is fed bytes and returns blocks, which joined are what was fed.

    A block ends with "\n" or is a part of a line: up to `max_line_bytes` of a longer line, or what `flush` returned.

    Attributes:
        pending_bytes: size of the unfinished line that has been fed and not returned yet.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._parts: list[bytes | memoryview] = []
        self.pending_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes that were read, and return the blocks that are complete now."""
        blocks: list[bytes] = []
        for start in range(0, len(data), self._limit):  # a single read is rarely that long
            self._feed(data[start : start + self._limit], blocks)
        return blocks

    def flush(self) -> list[bytes]:
        """Return the unfinished line that is pending, without an incomplete UTF-8 character at its end.

        If there is nothing else, the incomplete character is returned, too: it may not be UTF-8 at all.
        """
        data = self._take_pending()
        cut = _character_boundary(data, len(data)) or len(data)
        self._add_pending(data[cut:])
        return [data[:cut]] if data else []

    def finish(self) -> list[bytes]:
        """Return all that is pending, because the stream has ended."""
        data = self._take_pending()
        return [data] if data else []

    def _feed(self, data: bytes, blocks: list[bytes]) -> None:
        cut = data.rfind(b"\n") + 1
        if cut:
            first = data.find(b"\n") + 1
            if self.pending_bytes + first - 1 > self._limit:
                line = self._take_pending() + data[:first]
                self._add_pending(self._split(line, len(line) - 1, blocks))
                blocks.append(self._take_pending())
                if first < cut:
                    blocks.append(data[first:cut])
            else:
                # With a view, the join is the only copy; if there is nothing to join, there is none.
                self._parts.append(memoryview(data)[:cut] if cut < len(data) else data)
                blocks.append(self._take_pending())
            data = data[cut:]
        if data:
            self._add_pending(data)
        if self.pending_bytes > self._limit:
            line = self._take_pending()
            self._add_pending(self._split(line, len(line), blocks))

    def _split(self, line: bytes, content: int, blocks: list[bytes]) -> bytes:
        """Cut parts off `line` while its `content` bytes (without the terminator) exceed the limit; return the rest."""
        start = 0
        while content - start > self._limit:
            end = start + self._limit
            end = start + (_character_boundary(line[start : end + 1], self._limit) or self._limit)
            blocks.append(line[start:end])
            start = end
        return line[start:]

    def _add_pending(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self.pending_bytes += len(data)

    def _take_pending(self) -> bytes:
        data = b"".join(self._parts)
        self._parts = []
        self.pending_bytes = 0
        return data


def _character_boundary(data: bytes, at: int) -> int:
    """Return `at`, or up to three less if a cut at `at` would split a UTF-8 character."""
    for back in range(1, min(_LONGEST_CHARACTER, at + 1)):
        byte = data[at - back]
        if byte >= 0xC0:  # noqa: PLR2004 - a lead byte, see RFC 3629
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4  # noqa: PLR2004 - likewise
            return at - back if length > back else at
        if byte < 0x80:  # noqa: PLR2004 - ASCII: the boundary is after it
            return at
    return at

r"""Cutting a stream of bytes into blocks of whole lines. Pure, one object a stream.

Nothing here looks at single lines unless one is over-long: a block is cut at its last "\n".
"""

MAX_LINE_BYTES = 1 << 20
_LONGEST_CHARACTER = 4


class LineFramer:
    r"""Feed bytes, get blocks. The blocks' concatenation is what was fed, less what `pending` still holds.

    A block ends with "\n", or is a part of a line: `max_line_bytes` of an over-long one, or what `flush` gave.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._parts: list[bytes | memoryview] = []
        self.pending_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read, and return the blocks that are complete now."""
        blocks: list[bytes] = []
        for start in range(0, len(data), self._limit):  # one read is seldom that long
            self._feed(data[start : start + self._limit], blocks)
        return blocks

    def flush(self) -> list[bytes]:
        """Return the part of a line that is pending, less the beginning of a character that is not whole.

        A beginning that is all there is comes, too: it may be no character at all.
        """
        data = self._take()
        cut = _character_boundary(data, len(data)) or len(data)
        self._keep(data[cut:])
        return [data[:cut]] if data else []

    def finish(self) -> list[bytes]:
        """The stream has ended: return all that is pending."""
        data = self._take()
        return [data] if data else []

    def _feed(self, data: bytes, blocks: list[bytes]) -> None:
        cut = data.rfind(b"\n") + 1
        if cut:
            first = data.find(b"\n") + 1
            if self.pending_bytes + first - 1 > self._limit:
                line = self._take() + data[:first]
                self._keep(self._split(line, len(line) - 1, blocks))
                blocks.append(self._take())
                if first < cut:
                    blocks.append(data[first:cut])
            else:
                # A view: the join is the only copy, and where there is nothing to join there is none.
                self._parts.append(memoryview(data)[:cut] if cut < len(data) else data)
                blocks.append(self._take())
            data = data[cut:]
        if data:
            self._keep(data)
        if self.pending_bytes > self._limit:
            line = self._take()
            self._keep(self._split(line, len(line), blocks))

    def _split(self, line: bytes, content: int, blocks: list[bytes]) -> bytes:
        """Cut parts off `line` while its content (without the terminator) is over the limit; return the rest."""
        start = 0
        while content - start > self._limit:
            end = start + self._limit
            end = start + (_character_boundary(line[start : end + 1], self._limit) or self._limit)
            blocks.append(line[start:end])
            start = end
        return line[start:]

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self.pending_bytes += len(data)

    def _take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts = []
        self.pending_bytes = 0
        return data


def _character_boundary(data: bytes, at: int) -> int:
    """Return `at`, or up to three less if that would cut inside what begins as a UTF-8 character."""
    for back in range(1, min(_LONGEST_CHARACTER, at + 1)):
        byte = data[at - back]
        if byte >= 0xC0:  # noqa: PLR2004 - a lead byte, see RFC 3629
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4  # noqa: PLR2004 - likewise
            return at - back if length > back else at
        if byte < 0x80:  # noqa: PLR2004 - ASCII: the boundary is behind it
            return at
    return at

r"""Cutting a stream of bytes into blocks of whole lines.

A block is cut at its last "\n"; single lines are examined only if one is longer than the limit.
"""

import codecs
from dataclasses import dataclass

from outlast.wire.contract import UNFINISHED_CHARACTER_BYTES

MAX_LINE_BYTES = 1 << 20
"""Maximum bytes of a line, without its terminator. What is longer is cut into lines of at most that."""


_SURROGATES = tuple(bytes((0xED, second)) for second in range(0xA0, 0xC0))
"""How surrogates would begin. They are not valid, but Python's decoder waits for their last byte."""


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of a stream, at least one. `continues`: they begin with the rest of the line with which the last ended."""

    data: bytes
    continues: bool = False


class LineFramer:
    r"""A framer of one stream: it is fed bytes and returns blocks, which joined are what was fed.

    A block ends with "\n", or with the `max_line_bytes` of a longer line, or with what `flush` or `finish` returned.
    Where the lines end does not depend on how the bytes arrive, nor on flushes.

    Attributes:
        pending_bytes: size of what has been fed and not returned yet: an unfinished line, or its rest.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES, *, begun_bytes: int = 0) -> None:
        """`begun_bytes`: size of the unfinished line that an earlier framer of this stream has returned."""
        self._limit = max_line_bytes
        self._begun = begun_bytes
        self._parts: list[bytes | memoryview] = []
        self.pending_bytes = 0

    @property
    def can_flush(self) -> bool:
        """Whether `flush` would return something."""
        if self.pending_bytes > UNFINISHED_CHARACTER_BYTES:
            return True
        return self.pending_bytes > count_held(b"".join(self._parts))

    def feed(self, data: bytes) -> list[Block]:
        """Add bytes that were read, and return the blocks that are complete now."""
        blocks: list[Block] = []
        for start in range(0, len(data), self._limit):  # a single read is rarely that long
            self._feed(data[start : start + self._limit], blocks)
        return blocks

    def flush(self) -> list[Block]:
        """Return the part of a line that is pending, without an incomplete character at its end."""
        data = self._take_pending()
        cut = len(data) - count_held(data)
        self._add_pending(data[cut:])
        return self._return_part(data[:cut])

    def finish(self) -> list[Block]:
        """Return all that is pending, because the stream has ended."""
        return self._return_part(self._take_pending())

    def start_line(self) -> None:
        """Note that what is fed next is not the rest of what was returned."""
        self._begun = 0

    def _feed(self, data: bytes, blocks: list[Block]) -> None:
        cut = data.rfind(b"\n") + 1
        if cut:
            first = data.find(b"\n") + 1
            if self._begun + self.pending_bytes + first - 1 > self._limit:
                line = self._take_pending() + data[:first]
                blocks.append(self._end_line(self._split(line, len(line) - 1, blocks)))
                if first < cut:
                    blocks.append(Block(data[first:cut]))
            else:
                # With a view, the join is the only copy; if there is nothing to join, there is none.
                self._parts.append(memoryview(data)[:cut] if cut < len(data) else data)
                blocks.append(self._end_line(self._take_pending()))
            data = data[cut:]
        if data:
            self._add_pending(data)
        if self._begun + self.pending_bytes > self._limit:
            line = self._take_pending()
            self._add_pending(self._split(line, len(line), blocks))

    def _split(self, line: bytes, content: int, blocks: list[Block]) -> bytes:
        """Cut `line`, of `content` bytes without terminator, where the limit is reached. Return what is left."""
        start = 0
        while self._begun + content - start > self._limit:
            end = start + self._limit - self._begun
            end -= count_held(line[max(start, end - UNFINISHED_CHARACTER_BYTES) : end])
            if end == start and not self._begun:  # the limit is shorter than a character
                end += self._limit
            if end > start:
                blocks += self._return_part(line[start:end])
            self._begun = 0
            start = end
        return line[start:]

    def _return_part(self, data: bytes) -> list[Block]:
        if not data:
            return []
        block = Block(data, continues=self._begun > 0)
        self._begun += len(data)
        return [block]

    def _end_line(self, data: bytes) -> Block:
        block = Block(data, continues=self._begun > 0)
        self._begun = 0
        return block

    def _add_pending(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self.pending_bytes += len(data)

    def _take_pending(self) -> bytes:
        data = b"".join(self._parts)
        self._parts = []
        self.pending_bytes = 0
        return data


def count_held(data: bytes) -> int:
    """Return how many bytes at the end of `data` (0 to 3) are a UTF-8 character that lacks its rest."""
    last = data[-UNFINISHED_CHARACTER_BYTES:]
    if last.isascii():
        return 0
    _, decoded = codecs.utf_8_decode(last, "replace", False)
    held = last[decoded:]
    return 0 if held.startswith(_SURROGATES) else len(held)

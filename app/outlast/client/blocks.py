"""Pieces of a body, as they come from a connection, cut into whole events or lines."""


class Splitter:
    """Splitter of bytes at a separator. What follows the last separator waits for the rest."""

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._waiting: list[bytes] = []
        self._last = b""

    def split(self, data: bytes) -> list[bytes]:
        """Return the blocks that `data` completes, without their separators."""
        # A block may be long: it is put together once, not at each piece.
        if self._separator not in self._last + data:
            self._waiting.append(data)
            self._last = (self._last + data)[-len(self._separator) :]
            return []
        *blocks, rest = b"".join((*self._waiting, data)).split(self._separator)
        self._waiting, self._last = [rest], rest[-len(self._separator) :]
        return blocks


def fields_of(block: bytes) -> tuple[bytes, bytes, bytes]:
    """Return id, name and data of a Server-Sent Event; what is missing is empty. A comment has none of them."""
    id_, name, data = b"", b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b": ")
        if field == b"data":
            data.append(value)
        elif field == b"id":
            id_ = value
        elif field == b"event":
            name = value
    return id_, name, b"\n".join(data)

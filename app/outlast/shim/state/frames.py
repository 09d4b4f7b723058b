"""Frames of output, and the clock that stamps them."""

import time

STDOUT, STDERR = 1, 2


def now_ms() -> int:
    """Return the milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Frame:
    """One read of a pipe: `size` bytes at `offset` of a stream. Size 0: the end of the stream.

    Attributes:
        spooled: whether the bytes are on disk.
        is_fixed: whether another program was told of the frame. It does not grow any more: lines are numbered in the
            order of the frames.
    """

    __slots__ = ("is_fixed", "offset", "size", "spooled", "stream", "ts_ms")

    def __init__(self, stream: int, ts_ms: int, offset: int, size: int, *, spooled: bool = False) -> None:
        self.stream = stream
        self.ts_ms = ts_ms
        self.offset = offset
        self.size = size
        self.spooled = spooled
        self.is_fixed = False

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.size

    def to_fields(self) -> list[int]:
        """Return the frame as a description carries it (see `outlast.wire.description.FrameFields`)."""
        return [self.stream, self.ts_ms, self.offset, self.size]

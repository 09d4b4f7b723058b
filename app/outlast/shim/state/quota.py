"""How much the shim holds of all processes, and how much it may hold."""

from outlast.shim.state.frames import Frame
from outlast.wire.contract import FRAME_OVERHEAD_BYTES

EXACT_FRAMES = 4096
"""Number of waiting frames of one process up to which times are exact.

Frames that nobody takes must not pile up without bound: each further `EXACT_FRAMES` of them double the time that one
frame may span.
"""
_EXACT_FRAMES_PRESSED = 16
"""`EXACT_FRAMES` while memory is short."""
_LONGEST_SPAN_BITS = 22
"""Binary logarithm of the longest time in ms that one frame may span: 70 minutes."""


class BufferUsage:
    """Bytes that are held of all processes together, and the limits on them.

    Attributes:
        process_limit_bytes: limit for one process, in memory and on disk together.
        memory_bytes: bytes in memory, with the overhead of all frames.
        spool_bytes: bytes on disk.
    """

    def __init__(self) -> None:
        self.process_limit_bytes = 64 << 20
        self.memory_limit_bytes = 128 << 20
        self.spool_limit_bytes = 1 << 30
        self.memory_bytes = 0
        self.spool_bytes = 0

    def frame_span_ms(self, waiting: int) -> int:
        """Return the time that one frame may span while a process has `waiting` frames. 1 is the clock's own step."""
        bits = waiting // EXACT_FRAMES
        if self.memory_bytes > self.memory_limit_bytes // 2:
            bits += waiting // _EXACT_FRAMES_PRESSED
        return 1 << min(bits, _LONGEST_SPAN_BITS)

    def count_frame(self, frame: Frame) -> None:
        """Count a frame that is held from now on."""
        self.memory_bytes += FRAME_OVERHEAD_BYTES
        self.count_bytes(frame, frame.size)

    def discount_frame(self, frame: Frame) -> None:
        """Stop counting a frame."""
        self.memory_bytes -= FRAME_OVERHEAD_BYTES
        self.count_bytes(frame, -frame.size)

    def count_bytes(self, frame: Frame, count: int) -> None:
        """Count more (or, if `count` is negative, fewer) bytes of a frame."""
        if frame.spooled:
            self.spool_bytes += count
        else:
            self.memory_bytes += count

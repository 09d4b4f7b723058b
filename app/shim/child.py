"""One process as the shim holds it: its pipes, the frames that are not acknowledged yet, its standard input."""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

READ_BYTES = 256 << 10
FRAME_OVERHEAD_BYTES = 256  # of a frame besides its data: what bounds memory must count it
_COALESCE_BYTES = 64 << 10
STDOUT, STDERR = 1, 2

# All reads go through this one buffer: a read into fresh memory costs page faults, and most reads are short.
_scratch = bytearray(READ_BYTES)
_scratch_view = memoryview(_scratch)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Frame:
    """What one read brought. No data: the stream has ended."""

    stream: int
    ts_ms: int
    offset: int
    data: bytes

    @property
    def cost(self) -> int:
        """Bytes of memory it takes, about."""
        return len(self.data) + FRAME_OVERHEAD_BYTES

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + len(self.data)


@dataclass(slots=True)
class PendingInput:
    """Bytes on their way into a standard input, and who is told when they are in."""

    data: memoryview
    answer: Callable[[str | None], None]


class Child:
    """State of one process. `children.py` decides when to call what."""

    def __init__(self, slot: int, record: dict[str, Any], group: str | None) -> None:
        self.slot = slot
        self.id: str = record["id"]
        self.record = record
        self.group = group
        self.started_at_ms = now_ms()
        self.pid = 0
        self.pidfd = -1
        self.started = False
        self.reaped = False
        self.exited: dict[str, int] | None = None
        self.stdin: int | None = None
        self.input: deque[PendingInput] = deque()
        self.close_stdin_after_input = False
        self.outputs: dict[int, int] = {}
        self.read_total = {STDOUT: 0, STDERR: 0}
        self.let_go = {STDOUT: 0, STDERR: 0}
        self.attached = False
        self.unsent: deque[Frame] = deque()
        self.unacked: deque[Frame] = deque()
        self.ends: list[Frame] = []
        self.in_flight_bytes = 0
        self.held_bytes = 0

    def read(self, stream: int) -> int | None:
        """Read once from a pipe and keep what came.

        Returns:
            How many bytes of memory that took; 0 at the end of the stream; None if there was nothing to read.
        """
        try:
            count = os.readv(self.outputs[stream], [_scratch])
        except BlockingIOError:
            return None
        ts_ms = now_ms()
        if count == 0:
            end = Frame(stream, ts_ms, self.read_total[stream], b"")
            self.ends.append(end)
            self.unsent.append(end)
            return 0
        data = bytes(_scratch_view[:count])
        last = self.unsent[-1] if self.unsent else None
        if (
            last is not None
            and last.stream == stream
            and last.ts_ms == ts_ms
            and len(last.data) + count <= _COALESCE_BYTES
        ):
            last.data += data
            cost = count
        else:
            frame = Frame(stream, ts_ms, self.read_total[stream], data)
            self.unsent.append(frame)
            cost = frame.cost
        self.read_total[stream] += count
        self.held_bytes += cost
        return cost

    def next_frame(self) -> Frame | None:
        """Take the next frame to send; its data are kept until acknowledged, a stream's end for good."""
        if not self.attached or not self.unsent:
            return None
        frame = self.unsent.popleft()
        if frame.data:
            self.unacked.append(frame)
            self.in_flight_bytes += frame.cost
        return frame

    def acknowledge(self, stdout_end: int, stderr_end: int) -> int:
        """Let go of the frames that are stored whole, and return how many bytes that freed."""
        ends = (0, stdout_end, stderr_end)
        freed = 0
        while self.unacked and self.unacked[0].end <= ends[self.unacked[0].stream]:
            frame = self.unacked.popleft()
            self.let_go[frame.stream] = frame.end
            freed += frame.cost
        self.in_flight_bytes -= freed
        self.held_bytes -= freed
        return freed

    def attach(self, stdout_end: int, stderr_end: int) -> int:
        """Begin to send (again) from where the store stands, and return how many bytes it had already."""
        ends = (0, stdout_end, stderr_end)
        kept: deque[Frame] = deque()
        freed = 0
        for frame in (*self.unacked, *self.unsent):
            if frame.end <= ends[frame.stream]:
                self.let_go[frame.stream] = frame.end
                freed += frame.cost
            elif frame.data:
                kept.append(frame)
        kept.extend(self.ends)
        self.unsent = kept
        self.unacked = deque()
        self.in_flight_bytes = 0
        self.held_bytes -= freed
        self.attached = True
        return freed

    def rebase(self, stdout_end: int, stderr_end: int) -> None:
        """Let what is still here begin at these offsets: the store does not have what came before, or not there."""
        for stream, end in ((STDOUT, stdout_end), (STDERR, stderr_end)):
            shift = end - self.let_go[stream]
            for frame in (*self.unacked, *self.unsent):
                if frame.stream == stream:
                    frame.offset += shift
            self.read_total[stream] += shift
            self.let_go[stream] = end

    def detach(self) -> None:
        """The daemon has gone: what was sent and not acknowledged will be sent again."""
        self.attached = False
        self.unacked.extend(self.unsent)
        self.unsent = self.unacked
        self.unacked = deque()
        self.in_flight_bytes = 0

    def write_stdin(self) -> bool:
        """Write pending input as far as the pipe takes it.

        Returns:
            Whether more is to be written when the pipe has room.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        assert self.stdin is not None  # noqa: S101 - the caller registers only an open one
        while self.input:
            pending = self.input[0]
            try:
                written = os.write(self.stdin, pending.data)
            except BlockingIOError:
                return True
            pending.data = pending.data[written:]
            if not pending.data:
                self.input.popleft()
                pending.answer(None)
        return False

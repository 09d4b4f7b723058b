"""One process as the shim holds it: its streams, the frames that are not acknowledged yet, its standard input."""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outlast.failpoints import failpoint
from outlast.shim.state.buffer import StreamBuffer
from outlast.wire.contract import FRAME_OVERHEAD_BYTES

STDOUT, STDERR = 1, 2
_COALESCE_BYTES = 64 << 10
# While nobody takes them, frames must not pile up without bound: so many have exact times, and each further so many
# double the time that one of them may span. Where memory is short, this begins much earlier.
_EXACT_FRAMES = 4096
_EXACT_FRAMES_PRESSED = 16
_LONGEST_SPAN_BITS = 22  # 70 minutes


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Frame:
    """What one read brought: `size` bytes at `offset` of a stream. None: the stream has ended."""

    __slots__ = ("offset", "size", "spooled", "stream", "ts_ms")

    def __init__(self, stream: int, ts_ms: int, offset: int, size: int, *, spooled: bool = False) -> None:
        self.stream = stream
        self.ts_ms = ts_ms
        self.offset = offset
        self.size = size
        self.spooled = spooled

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.size


class PendingInput:
    """Bytes on their way into a standard input, and the request that is answered when they are in.

    Attributes:
        request: None: who asked has gone.
    """

    __slots__ = ("data", "request")

    def __init__(self, request: int | None, data: memoryview) -> None:
        self.request = request
        self.data = data


class BufferUsage:
    """How much is held of all processes together, in bytes: in memory (with what frames take), and on disk.

    Attributes:
        process_limit_bytes: what one process may have in both.
    """

    def __init__(self) -> None:
        self.process_limit_bytes = 64 << 20
        self.memory_limit_bytes = 128 << 20
        self.spool_limit_bytes = 1 << 30
        self.memory_bytes = 0
        self.spool_bytes = 0

    def span_ms(self, waiting: int) -> int:
        """Return the time that one frame may span when a process has `waiting` frames: 1 is the clock's own step."""
        bits = waiting // _EXACT_FRAMES
        if self.memory_bytes > self.memory_limit_bytes // 2:
            bits += waiting // _EXACT_FRAMES_PRESSED
        return 1 << min(bits, _LONGEST_SPAN_BITS)

    def add(self, frame: Frame, sign: int = 1) -> None:
        """Count a frame, or with -1 no longer."""
        self.memory_bytes += sign * FRAME_OVERHEAD_BYTES
        self.grow(frame, sign * frame.size)

    def grow(self, frame: Frame, count: int) -> None:
        """Count more bytes of a frame."""
        if frame.spooled:
            self.spool_bytes += count
        else:
            self.memory_bytes += count


class Child:
    """State of one process. `children.py` decides when to call what.

    Attributes:
        gate: while it waits there: where to write to let it go on.
        outcome: until it is known what became of the start: the pipe that ends then.
        report: likewise: the file that tells.
        started: it runs its program, or has run it.
        failed: `stage` and `errno` of a start that failed.
        adopted: another shim started it: it is not our child, and only its pidfd tells of its end.
        timeout_ms: how long it may run its program.
        deadline_ms: the end of that, by the monotonic clock; None until it runs.
        unsent: frames that wait to be sent.
        unacked: frames that are sent and not acknowledged.
        in_flight_bytes: of the unacked ones, what bounds what the daemon can be made to hold.
        held_bytes: output that is not acknowledged.
        memory_bytes: the part of it that is in memory.
    """

    def __init__(self, slot: int, record: dict[str, Any], group: str | None, room: BufferUsage) -> None:
        self.slot = slot
        self.id: str = record["id"]
        self.record = record
        self.group = group
        self.started_at_ms = now_ms()
        self.pid = 0
        self.pidfd = -1
        self.adopted = False
        self.gate = -1
        self.outcome = -1
        self.report = -1
        self.started = False
        self.timeout_ms: int | None = None
        self.deadline_ms: int | None = None
        self.failed: dict[str, int] | None = None
        self.reaped = False
        self.exited: dict[str, int] | None = None
        self.stdin: int | None = None
        self.input: deque[PendingInput] = deque()
        self.close_stdin_after_input = False
        self.streams: dict[int, StreamBuffer] = {}
        self.attached = False
        self.unsent: deque[Frame] = deque()
        self.unacked: deque[Frame] = deque()
        self.ends: list[Frame] = []
        self.in_flight_bytes = 0
        self.held_bytes = 0
        self.memory_bytes = 0
        self._room = room

    # ---- output

    def read(self, stream: int) -> int | None:
        """Read once from a pipe and note what came.

        Returns:
            How many bytes; 0 at the end of the stream; None if there was nothing to read.

        Raises:
            OSError: the buffer takes no more now; nothing is lost.
        """
        buffer = self.streams[stream]
        count = buffer.read()
        if count is None:
            return None
        failpoint("shim-read")
        ts_ms = now_ms()
        if count == 0:
            end = Frame(stream, ts_ms, buffer.end, 0)
            self.ends.append(end)
            self.unsent.append(end)
            return 0
        self._note(stream, ts_ms, count, buffer)
        return count

    def _note(self, stream: int, ts_ms: int, count: int, buffer: StreamBuffer) -> None:
        spooled = buffer.spools
        frame = self._open_frame(stream, ts_ms)
        is_same_file = frame is not None and frame.offset >= buffer.segments[-1].start
        if frame is not None and is_same_file and 0 < frame.size <= _COALESCE_BYTES - count:
            frame.size += count
            self._room.grow(frame, count)
        else:
            frame = Frame(stream, ts_ms, buffer.end - count, count, spooled=spooled)
            self.unsent.append(frame)
            self._room.add(frame)
        self._hold(count, spooled=spooled)

    def _open_frame(self, stream: int, ts_ms: int) -> Frame | None:
        """Return a stream's last frame if what is read of it now may still belong to it.

        Where times have become coarse, so has the order between the streams: else two that take turns would make a
        frame of each read.
        """
        span_ms = self._room.span_ms(len(self.unsent))
        for frame in itertools.islice(reversed(self.unsent), 1 if span_ms == 1 else 2):
            if frame.stream == stream:
                return frame if 0 <= ts_ms - frame.ts_ms < span_ms else None
        return None

    def _hold(self, count: int, *, spooled: bool) -> None:
        self.held_bytes += count
        if not spooled:
            self.memory_bytes += count

    def next_frame(self) -> Frame | None:
        """Take the next frame to send; it is kept until acknowledged, a stream's end for good."""
        if not self.attached or not self.unsent:
            return None
        frame = self.unsent.popleft()
        if frame.size:
            self.unacked.append(frame)
            self.in_flight_bytes += frame.size + FRAME_OVERHEAD_BYTES
        return frame

    def acknowledge(self, stdout_end: int, stderr_end: int) -> int:
        """Let go of the frames that are stored whole, and return how many bytes are no longer in flight."""
        ends = (0, stdout_end, stderr_end)
        before = self.in_flight_bytes
        stored: dict[int, int] = {}
        while self.unacked and self.unacked[0].end <= ends[self.unacked[0].stream]:
            frame = self.unacked.popleft()
            self.in_flight_bytes -= frame.size + FRAME_OVERHEAD_BYTES
            self._drop(frame)
            stored[frame.stream] = frame.end
        self._release(stored)
        return before - self.in_flight_bytes

    def attach(self, stdout_end: int, stderr_end: int) -> None:
        """Begin to send (again) from where the store stands."""
        ends = (0, stdout_end, stderr_end)
        kept: deque[Frame] = deque()
        stored: dict[int, int] = {}
        for frame in (*self.unacked, *self.unsent):
            if not frame.size:
                continue
            if frame.end <= ends[frame.stream]:
                self._drop(frame)
                stored[frame.stream] = frame.end
            else:
                kept.append(frame)
        kept.extend(self.ends)
        self.unsent = kept
        self.unacked = deque()
        self.in_flight_bytes = 0
        self.attached = True
        self._release(stored)

    def detach(self) -> None:
        """The daemon has gone: what was sent and not acknowledged will be sent again."""
        self.attached = False
        self.unacked.extend(self.unsent)
        self.unsent = self.unacked
        self.unacked = deque()
        self.in_flight_bytes = 0
        for pending in self.input:
            pending.request = None

    def restore_frames(self, frames: Sequence[Frame], ends: Sequence[Frame]) -> None:
        """Hold what an earlier shim held: these frames, what it read and did not note, and the ends of streams."""
        known = {stream: buffer.let_go for stream, buffer in self.streams.items()}
        for frame in frames:
            known[frame.stream] = frame.end
            self._restore(frame, spooled=self.streams[frame.stream].is_on_disk(frame.offset))
        for stream, buffer in self.streams.items():
            for offset, size, ts_ms, spooled in buffer.unknown(known[stream]):
                self._restore(Frame(stream, ts_ms, offset, size), spooled=spooled)
        # Of a pipe that had ended a daemon may have been told before it was told of the stream's end.
        told = {end.stream for end in ends}
        silent = [stream for stream, buffer in self.streams.items() if buffer.pipe is None and stream not in told]
        self.ends = [*ends, *(Frame(stream, now_ms(), self.streams[stream].end, 0) for stream in silent)]
        self.unsent.extend(self.ends)

    def _restore(self, frame: Frame, *, spooled: bool) -> None:
        frame.spooled = spooled
        self.unsent.append(frame)
        self._hold(frame.size, spooled=spooled)
        self._room.add(frame)

    def drop_all(self) -> None:
        """It is forgotten: nothing of it is needed."""
        for frame in (*self.unacked, *self.unsent):
            if frame.size:
                self._drop(frame)
        self.unsent.clear()
        self.unacked.clear()
        self.attached = False

    def _drop(self, frame: Frame) -> None:
        self._hold(-frame.size, spooled=frame.spooled)
        self._room.add(frame, -1)

    def _release(self, stored: Mapping[int, int]) -> None:
        """Give back what belonged to frames that are stored whole, up to these offsets."""
        for stream, upto in stored.items():
            self.streams[stream].release(upto)

    # ---- standard input

    def write_stdin(self, answer: Callable[[PendingInput], None]) -> bool:
        """Write pending input as far as the pipe takes it; `answer` is called with what is in.

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
                answer(self.input.popleft())
        return False

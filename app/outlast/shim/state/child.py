"""One process as the shim holds it: its descriptors, its streams, unacknowledged frames, pending input."""

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outlast.failpoints import failpoint
from outlast.shim.state.buffer import StreamBuffer
from outlast.shim.state.frames import Frame, now_ms
from outlast.shim.state.quota import BufferUsage
from outlast.wire.contract import FRAME_OVERHEAD_BYTES, UNFINISHED_CHARACTER_BYTES

_COALESCE_BYTES = 64 << 10
"""Maximum size of a frame that further reads are added to."""


class PendingInput:
    """Bytes on their way into a standard input.

    Attributes:
        request: number of the request that is answered when they are written. None: the daemon that asked is gone.
    """

    __slots__ = ("data", "request")

    def __init__(self, request: int | None, data: memoryview) -> None:
        self.request = request
        self.data = data


class Child:
    """State of one process. `children.py` decides when its methods are called.

    Attributes:
        gate: while the process waits there: the pipe's writing end, through which a byte lets it run its program.
        outcome: until the outcome of the start is known: the pipe that ends then.
        report: likewise: the file that tells the outcome.
        started: whether the program runs or has run.
        failed: `stage` and `errno` of a start that failed.
        adopted: whether another shim started the process: then it is not a child of this one, and only its pidfd
            tells of its end.
        since_ticks: time from boot to a moment before the start; 0 if it is not known.
        timeout_ms: how long the program may run.
        deadline_ms: when that time is over, by the monotonic clock. None until the program runs.
        stop_by_ms: when it is killed because it was told to end before, by the same clock. None: it was not told.
        unsent: frames that wait to be sent.
        unacked: frames that are sent and not acknowledged.
        ends: ends of streams, as frames of size 0. They are kept for good.
        in_flight_bytes: bytes of the unacknowledged frames, with their overhead.
        held_bytes: bytes of output that are not acknowledged.
        memory_bytes: those of them that are in memory.
    """

    def __init__(self, slot: int, record: dict[str, Any], group: str | None, usage: BufferUsage) -> None:
        self.slot = slot
        self.id: str = record["id"]
        self.record = record
        self.group = group
        self.started_at_ms = now_ms()
        self.since_ticks = 0
        self.pid = 0
        self.pidfd = -1
        self.adopted = False
        self.gate = -1
        self.outcome = -1
        self.report = -1
        self.started = False
        self.timeout_ms: int | None = None
        self.deadline_ms: int | None = None
        self.stop_by_ms: int | None = None
        self.failed: Mapping[str, int] | None = None
        self.reaped = False
        self.exited: Mapping[str, int] | None = None
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
        self._usage = usage

    # ---- output

    def read_stream(self, stream: int) -> int | None:
        """Read once from a pipe, and note what came as a frame.

        Returns:
            The number of bytes; 0 at the end of the stream; None if there was nothing to read.

        Raises:
            OSError: the buffer takes no more now. Nothing is lost.
        """
        buffer = self.streams[stream]
        count = buffer.read_pipe()
        if count is None:
            return None
        failpoint("shim-read")
        ts_ms = now_ms()
        if count == 0:
            end = Frame(stream, ts_ms, buffer.end, 0)
            self.ends.append(end)
            self.unsent.append(end)
            return 0
        self._note_read(stream, ts_ms, count, buffer)
        return count

    def _note_read(self, stream: int, ts_ms: int, count: int, buffer: StreamBuffer) -> None:
        spooled = buffer.spools
        frame = self._open_frame(stream, ts_ms)
        is_same_file = frame is not None and frame.offset >= buffer.segments[-1].start
        if frame is not None and is_same_file and 0 < frame.size <= _COALESCE_BYTES - count:
            frame.size += count
            self._usage.count_bytes(frame, count)
        else:
            frame = Frame(stream, ts_ms, buffer.end - count, count, spooled=spooled)
            self.unsent.append(frame)
            self._usage.count_frame(frame)
        self._count_held(count, spooled=spooled)

    def _open_frame(self, stream: int, ts_ms: int) -> Frame | None:
        """Return a stream's last frame if bytes that are read now may be added to it, because nobody knows of it.

        Where times have become coarse, the order between the two streams has, too: otherwise two streams that take
        turns would make a frame of each read.
        """
        span_ms = self._usage.frame_span_ms(len(self.unsent))
        for frame in itertools.islice(reversed(self.unsent), 1 if span_ms == 1 else 2):
            if frame.stream == stream:
                return frame if not frame.is_fixed and 0 <= ts_ms - frame.ts_ms < span_ms else None
        return None

    def _count_held(self, count: int, *, spooled: bool) -> None:
        self.held_bytes += count
        if not spooled:
            self.memory_bytes += count

    def next_frame(self) -> Frame | None:
        """Return the next frame to send, and keep it until it is acknowledged."""
        if not self.attached or not self.unsent:
            return None
        frame = self.unsent.popleft()
        if frame.size:
            frame.is_fixed = True
            buffer = self.streams[frame.stream]
            buffer.sent_to = max(buffer.sent_to, frame.end)
            self.unacked.append(frame)
            self.in_flight_bytes += frame.size + FRAME_OVERHEAD_BYTES
        return frame

    def acknowledge(self, stdout_end: int, stderr_end: int) -> int:
        """Drop the frames that are stored as a whole, and return how many bytes are no longer in flight.

        A frame that lacks no more than an unfinished character stays, and those behind it need not wait for it.
        """
        ends = (0, stdout_end, stderr_end)
        before = self.in_flight_bytes
        stored: dict[int, int] = {}
        unfinished: list[Frame] = []
        while self.unacked:
            frame = self.unacked[0]
            left = frame.end - ends[frame.stream]
            if left > UNFINISHED_CHARACTER_BYTES:
                break
            self.unacked.popleft()
            if left > 0:
                unfinished.append(frame)
                continue
            self.in_flight_bytes -= frame.size + FRAME_OVERHEAD_BYTES
            self._drop_frame(frame)
            stored[frame.stream] = frame.end
        self.unacked.extendleft(reversed(unfinished))
        self._trim_streams(stored)
        return before - self.in_flight_bytes

    def attach(self, stdout_end: int, stderr_end: int) -> None:
        """Send output (again) from these offsets on: all below them is stored."""
        ends = (0, stdout_end, stderr_end)
        kept: deque[Frame] = deque()
        stored: dict[int, int] = {}
        for frame in (*self.unacked, *self.unsent):
            if not frame.size:
                continue
            if frame.end <= ends[frame.stream]:
                self._drop_frame(frame)
                stored[frame.stream] = frame.end
            else:
                kept.append(frame)
        kept.extend(self.ends)
        self.unsent = kept
        self.unacked = deque()
        self.in_flight_bytes = 0
        self.attached = True
        self._trim_streams(stored)

    def detach(self) -> None:
        """Keep frames that were sent and not acknowledged, to send them again: the daemon is gone."""
        self.attached = False
        self.unacked.extend(self.unsent)
        self.unsent = self.unacked
        self.unacked = deque()
        self.in_flight_bytes = 0
        for pending in self.input:
            pending.request = None

    def restore_frames(self, frames: Sequence[Frame], ends: Sequence[Frame]) -> None:
        """Hold what an earlier shim held: frames, bytes that it read and did not note, and the ends of streams."""
        known = {stream: buffer.trimmed_to for stream, buffer in self.streams.items()}
        for frame in frames:
            known[frame.stream] = frame.end
            self._restore_frame(frame, spooled=self.streams[frame.stream].is_on_disk(frame.offset))
        for stream, buffer in self.streams.items():
            for offset, size, ts_ms, spooled in buffer.read_after(known[stream]):
                self._restore_frame(Frame(stream, ts_ms, offset, size), spooled=spooled)
        # A daemon that describes a stream as ended may not have got the end itself, with its time.
        known_ends = {end.stream for end in ends}
        silent = [stream for stream, buffer in self.streams.items() if buffer.pipe is None and stream not in known_ends]
        self.ends = [*ends, *(Frame(stream, now_ms(), self.streams[stream].end, 0) for stream in silent)]
        self.unsent.extend(self.ends)

    def _restore_frame(self, frame: Frame, *, spooled: bool) -> None:
        frame.spooled = spooled
        frame.is_fixed = True
        self.unsent.append(frame)
        self._count_held(frame.size, spooled=spooled)
        self._usage.count_frame(frame)

    def drop_frames(self) -> None:
        """Drop all frames: the process is forgotten."""
        for frame in (*self.unacked, *self.unsent):
            if frame.size:
                self._drop_frame(frame)
        self.unsent.clear()
        self.unacked.clear()
        self.attached = False

    def _drop_frame(self, frame: Frame) -> None:
        self._count_held(-frame.size, spooled=frame.spooled)
        self._usage.discount_frame(frame)

    def _trim_streams(self, stored: Mapping[int, int]) -> None:
        """Free what belonged to frames that are stored as a whole, up to an offset of each stream."""
        for stream, end in stored.items():
            self.streams[stream].trim(end)

    # ---- standard input

    def write_stdin(self, answer: Callable[[PendingInput], None]) -> bool:
        """Write pending input as far as the pipe takes it. `answer` is called with each that is written as a whole.

        Returns:
            Whether more is to be written when the pipe has room.

        Raises:
            BrokenPipeError: no process reads the pipe any more.
        """
        assert self.stdin is not None  # noqa: S101 - the caller registers only an open one
        while self.input:
            pending = self.input[0]
            try:
                written = os.write(self.stdin, pending.data)
            except BlockingIOError:
                return True
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                raise BrokenPipeError from exc  # no process has the terminal open
            pending.data = pending.data[written:]
            if not pending.data:
                answer(self.input.popleft())
        return False

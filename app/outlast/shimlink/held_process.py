"""Descriptors that the daemon holds of a process besides the shim: enough to continue if the shim is killed."""

import fcntl
import os
import sys
import termios
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlast.model.errors import ProtocolError
from outlast.model.output import Position, Stream
from outlast.wire.contract import UNFINISHED_CHARACTER_BYTES
from outlast.wire.description import ProcessDescription, ProcessFds, StreamDescription, StreamFds
from outlast.wire.fds import close_all


@dataclass(slots=True)
class _HeldStream:
    """Duplicates of a stream's pipe (None: it has ended) and of its buffer files, with the offsets where they begin.

    `relay`: that of a terminal, see `StreamFds`.
    """

    pipe: int | None
    segments: deque[tuple[int, int]]
    trimmed_to: int
    noted_to: int
    sent_to: int
    relay: Sequence[int] = ()
    end: tuple[int, int] | None = None


@dataclass(slots=True)
class HeldProcess:
    """Duplicates of everything that the shim has open for a process.

    Attributes:
        pidfd: None: the process had been reaped.
        group: path of its cgroup.
        exited: its exit when the shim described it, as in `ProcessDescription`.
        failed: `stage` and `errno` if its start had failed by then.
        starting: gate (if it is shut), outcome pipe and report file of a start whose outcome is not known.
        is_waiting: whether the gate is among them.
        timeout_ms: how long the program may run.
        deadline_ms: when that time is over, by the system's monotonic clock, once the program runs.
        frames: frames that the shim has sent and that are not acknowledged, in order: stream, time in ms, offset, size.
    """

    pid: int
    started_at_ms: int
    group: str | None
    pidfd: int | None
    stdin: int | None
    streams: dict[Stream, _HeldStream]
    exited: Mapping[str, int] | None = None
    failed: Mapping[str, int] | None = None
    starting: list[int] = field(default_factory=list)
    is_waiting: bool = False
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    frames: deque[tuple[Stream, int, int, int]] = field(default_factory=deque)

    @classmethod
    def from_description(cls, description: ProcessDescription, fds: Sequence[int]) -> "HeldProcess":
        """Hold the descriptors that came with a description."""
        own = ProcessFds.assign(description, fds)
        streams = {}
        for stream, stream_fds in zip(description.streams, own.streams, strict=True):
            starts = (start for start, _path in stream.segments)
            streams[Stream(stream.stream)] = _HeldStream(
                stream_fds.pipe,
                deque(zip(starts, stream_fds.segments, strict=True)),
                trimmed_to=stream.trimmed_to,
                noted_to=stream.trimmed_to,
                sent_to=stream.sent_to,
                relay=stream_fds.relay,
            )
        held = cls(
            pid=description.pid,
            started_at_ms=description.started_at_ms,
            group=description.group,
            pidfd=own.pidfd,
            stdin=own.stdin,
            streams=streams,
            exited=description.exited,
            failed=description.failed,
            starting=list(own.start),
            is_waiting=description.is_waiting,
            timeout_ms=description.timeout_ms,
            deadline_ms=description.deadline_ms,
        )
        for stream_number, ts_ms, offset, size in description.frames:
            held._note_frame(Stream(stream_number), ts_ms, offset, size)
        return held

    def begins_at(self, stream: Stream) -> int:
        """Return the offset of the first byte of a stream that is still there."""
        return self.streams[stream].trimmed_to if stream in self.streams else 0

    def sent_to(self, stream: Stream) -> int:
        """Return the offset up to which this daemon or an earlier one was told of a stream."""
        return self.streams[stream].sent_to if stream in self.streams else 0

    def told_to(self, stream: Stream) -> int:
        """Return the offset up to which this daemon was told of a stream."""
        return self.streams[stream].noted_to if stream in self.streams else 0

    def written_to(self, stream: Stream) -> int:
        """Return the offset behind the last byte that was written to a stream by now, and may still be in the pipe.

        Of a terminal: behind the last that the shim can read at once, which may be fewer while it prints a lot.
        """
        held = self.streams[stream]
        start, fd = held.segments[-1]
        while True:
            end = start + os.fstat(fd).st_size
            if held.pipe is None:
                return end
            relayed = _waiting(held.relay[0]) if held.relay else 0
            waiting = _waiting(held.pipe)
            has_moved = held.relay and _waiting(held.relay[0]) != relayed
            if start + os.fstat(fd).st_size == end and not has_moved:  # else the shim has just moved some
                return end + relayed + waiting

    def read(self, stream: Stream, ts_ms: int, offset: int, size: int) -> bytes:
        """Return the bytes of a frame, and remember the frame until it is acknowledged.

        A shim that has taken over may send again what was stored before it learned the store's position. Such bytes are
        not held any more: zeros are returned in their place.

        Raises:
            ProtocolError: the bytes are not in the buffer files.
        """
        held = self.streams[stream]
        held.sent_to = max(held.sent_to, offset + size)
        if offset + size <= held.trimmed_to:
            return bytes(size)
        start, fd = held.segments[-1]
        if start > offset:
            start, fd = next((s for s in reversed(held.segments) if s[0] <= offset), held.segments[0])
        data = os.pread(fd, size, offset - start)
        while len(data) < size:
            more = os.pread(fd, size - len(data), offset - start + len(data))
            if not more:
                raise ProtocolError(f"the buffer of {stream.word} does not have {size} bytes at offset {offset}")
            data += more
        self._note_frame(stream, ts_ms, offset, size)
        return data

    def peek(self, stream: Stream, offset: int, max_bytes: int) -> bytes | None:
        """Return bytes of a stream from `offset` on, as far as the shim has told of them and one file has them.

        Empty: nothing has come there yet. None: they are not held any more, because they are stored.
        """
        held = self.streams.get(stream)
        if held is None or offset < held.trimmed_to:
            return None
        if offset >= held.noted_to:
            return b""
        index = next((i for i in reversed(range(len(held.segments))) if held.segments[i][0] <= offset), 0)
        start, fd = held.segments[index]
        end = held.segments[index + 1][0] if index + 1 < len(held.segments) else held.noted_to
        return os.pread(fd, min(max_bytes, min(end, held.noted_to) - offset), offset - start)

    def _note_frame(self, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """Remember the new part of a frame: frames may be sent again, and may have grown since."""
        held = self.streams[stream]
        begin, end = max(offset, held.noted_to), offset + size
        if begin < end:
            self.frames.append((stream, ts_ms, begin, end - begin))
            held.noted_to = end

    def told_bytes(self, position: Position) -> int:
        """Return the number of bytes after `position` that the shim has told of."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        return sum(max(0, held.noted_to - ends[stream]) for stream, held in self.streams.items())

    def append_segment(self, stream: Stream, start: int, fd: int) -> None:
        """Hold another buffer file of a stream, for the bytes from offset `start` on."""
        self.streams[stream].segments.append((start, fd))

    def on_end(self, stream: Stream, ts_ms: int, offset: int) -> None:
        """Close the pipe of a stream that has ended."""
        held = self.streams[stream]
        held.end = (ts_ms, offset)
        if held.pipe is not None:
            os.close(held.pipe)
            held.pipe = None
        close_all(held.relay)
        held.relay = ()

    def acknowledge(self, position: Position) -> None:
        """Drop frames and close buffer files before `position`: all of it is stored.

        As in the shim, a frame that lacks no more than an unfinished character does not hold up those behind it.
        """
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        unfinished: list[tuple[Stream, int, int, int]] = []
        while self.frames:
            stream, _, offset, size = self.frames[0]
            left = offset + size - ends[stream]
            if left > UNFINISHED_CHARACTER_BYTES:
                break
            frame = self.frames.popleft()
            if left > 0:
                unfinished.append(frame)
                continue
            held = self.streams[stream]
            held.trimmed_to = offset + size
            while len(held.segments) > 1 and held.segments[1][0] <= held.trimmed_to:
                os.close(held.segments.popleft()[1])
        self.frames.extendleft(reversed(unfinished))

    def close_stdin(self) -> None:
        """Close the standard input: as long as any program holds it, the process waits for more."""
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def describe(self, exited: Mapping[str, int] | None) -> tuple[ProcessDescription, list[int]]:
        """Return the process's description for a shim that takes it over, and its descriptors. They stay held.

        Args:
            exited: its exit, if the daemon knows it; see `ProcessDescription`.
        """
        description = ProcessDescription(
            pid=self.pid,
            started_at_ms=self.started_at_ms,
            group=self.group,
            has_pidfd=self.pidfd is not None,
            is_waiting=self.is_waiting,
            is_starting=bool(self.starting),
            failed=self.failed,
            timeout_ms=self.timeout_ms,
            deadline_ms=self.deadline_ms,
            stdin_open=self.stdin is not None,
            exited=exited or self.exited,
            streams=[
                StreamDescription(
                    stream,
                    is_open=held.pipe is not None,
                    trimmed_to=held.trimmed_to,
                    sent_to=held.sent_to,
                    segments=[(start, None) for start, _fd in held.segments],
                    has_relay=bool(held.relay),
                )
                for stream, held in self.streams.items()
            ],
            frames=list(self.frames),
            ends=[(stream, *held.end, 0) for stream, held in self.streams.items() if held.end is not None],
        )
        return description, self._fds()

    def _fds(self) -> list[int]:
        streams = [
            StreamFds(held.pipe, [fd for _start, fd in held.segments], held.relay) for held in self.streams.values()
        ]
        return ProcessFds(self.pidfd, self.starting, self.stdin, streams).in_order()

    def on_started(self) -> None:
        """Close the descriptors of the start: its outcome is known."""
        for fd in self.starting:
            os.close(fd)
        self.starting.clear()
        self.is_waiting = False

    def close(self) -> None:
        """Close all descriptors."""
        for fd in self._fds():
            os.close(fd)
        self.starting.clear()
        self.pidfd = self.stdin = None
        self.streams.clear()
        self.frames.clear()


def _waiting(fd: int) -> int:
    """Return how many bytes can be read from a pipe or a terminal now."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)

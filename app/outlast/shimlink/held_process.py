"""What the daemon holds of a process besides the shim: enough to go on with if the shim is killed."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.model.errors import ProtocolError
from outlast.model.output import Position, Stream


@dataclass(slots=True)
class _HeldStream:
    """Duplicates of a stream's pipe (None: it has ended) and of its buffer files, with the offsets where they begin."""

    pipe: int | None
    segments: deque[tuple[int, int]]
    let_go: int
    noted: int
    end: tuple[int, int] | None = None


@dataclass(slots=True)
class HeldProcess:
    """Duplicates of everything that the shim has open for a process.

    Attributes:
        pidfd: None: it had been reaped.
        group: its cgroup.
        exited: how it had ended when the shim told of it, as in `handover`.
        failed: `stage` and `errno` if its start had failed by then.
        starting: gate (if it is shut), outcome and report of a start under way: see `outlast.shim.launch.spawn.Start`.
        is_waiting: whether the gate is among them.
        timeout_ms: how long it may run its program.
        deadline_ms: the end of that, by the system's monotonic clock, once it runs.
        frames: what the shim has told of and is not acknowledged, in order: stream, time in ms, offset, size.
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
    def of(cls, message: Mapping[str, Any], fds: Sequence[int]) -> "HeldProcess":
        """Take what an INVENTORY or STARTING message came with (outlast.shim.state.handover.describe)."""
        left = iter(fds)
        pidfd = next(left) if message["has_pidfd"] else None
        starting = [next(left) for _ in range(message["is_waiting"] + 2 * message["is_starting"])]
        stdin = next(left) if message["stdin_open"] else None
        streams = {}
        for told in message["streams"]:
            pipe = next(left) if told["open"] else None
            segments = deque((start, next(left)) for start, _path in told["segments"])
            streams[Stream(told["stream"])] = _HeldStream(pipe, segments, told["let_go"], noted=told["let_go"])
        held = cls(
            pid=message["pid"],
            started_at_ms=message["started_at_ms"],
            group=message["group"],
            pidfd=pidfd,
            stdin=stdin,
            streams=streams,
            exited=message["exited"],
            failed=message["failed"],
            starting=starting,
            is_waiting=message["is_waiting"],
            timeout_ms=message["timeout_ms"],
            deadline_ms=message["deadline_ms"],
        )
        for stream, ts_ms, offset, size in message["frames"]:
            held._note(Stream(stream), ts_ms, offset, size)
        return held

    def begins_at(self, stream: Stream) -> int:
        """Offset of the first byte of a stream that is still there."""
        return self.streams[stream].let_go if stream in self.streams else 0

    def read(self, stream: Stream, ts_ms: int, offset: int, size: int) -> bytes:
        """Return the bytes that a frame tells of, and remember the frame until it is acknowledged.

        A shim that has taken over may send again what has been stored since it was told where the store stands. It has
        been let go of here; what is returned for it has only its size.

        Raises:
            ProtocolError: they are not there.
        """
        held = self.streams[stream]
        if offset + size <= held.let_go:
            return bytes(size)
        start, fd = next((s for s in reversed(held.segments) if s[0] <= offset), held.segments[0])
        data = os.pread(fd, size, offset - start)
        while len(data) < size:
            more = os.pread(fd, size - len(data), offset - start + len(data))
            if not more:
                raise ProtocolError(f"{stream.word} has no {size} bytes at {offset}")
            data += more
        self._note(stream, ts_ms, offset, size)
        return data

    def _note(self, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """Remember what is new in a frame: some were told of before, and may have grown since."""
        held = self.streams[stream]
        begin, end = max(offset, held.noted), offset + size
        if begin < end:
            self.frames.append((stream, ts_ms, begin, end - begin))
            held.noted = end

    def on_end(self, stream: Stream, ts_ms: int, offset: int) -> None:
        """The stream has ended: its pipe is of no more use."""
        held = self.streams[stream]
        held.end = (ts_ms, offset)
        if held.pipe is not None:
            os.close(held.pipe)
            held.pipe = None

    def acknowledge(self, position: Position) -> None:
        """Everything up to `position` is stored: let go of frames, and of files that lie before it."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        while self.frames:
            stream, _, offset, size = self.frames[0]
            if offset + size > ends[stream]:
                break
            self.frames.popleft()
            held = self.streams[stream]
            held.let_go = offset + size
            while len(held.segments) > 1 and held.segments[1][0] <= held.let_go:
                os.close(held.segments.popleft()[1])

    def close_stdin(self) -> None:
        """Let go of its standard input: as long as anybody holds it, the process waits for more."""
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def handover(self, ending: Mapping[str, int] | None) -> tuple[dict[str, Any], list[int]]:
        """Describe the process for a shim that is to take it over (outlast.shim.state.handover.restore).

        Args:
            ending: how it ended, if that is known: `code` or `signal` (neither: nobody knows), `timed_out` and `ts_ms`.
        """
        described = {
            "pid": self.pid,
            "started_at_ms": self.started_at_ms,
            "group": self.group,
            "has_pidfd": self.pidfd is not None,
            "is_waiting": self.is_waiting,
            "is_starting": bool(self.starting),
            "failed": self.failed,
            "timeout_ms": self.timeout_ms,
            "deadline_ms": self.deadline_ms,
            "stdin_open": self.stdin is not None,
            "exited": ending or self.exited,
            "streams": [
                {
                    "stream": stream,
                    "open": held.pipe is not None,
                    "let_go": held.let_go,
                    "segments": [(start, None) for start, _ in held.segments],
                }
                for stream, held in self.streams.items()
            ],
            "frames": list(self.frames),
            "ends": [(stream, *held.end, 0) for stream, held in self.streams.items() if held.end is not None],
        }
        return described, list(self._fds())

    def _fds(self) -> Iterator[int]:
        if self.pidfd is not None:
            yield self.pidfd
        yield from self.starting
        if self.stdin is not None:
            yield self.stdin
        for held in self.streams.values():
            if held.pipe is not None:
                yield held.pipe
            yield from (fd for _, fd in held.segments)

    def on_started(self) -> None:
        """The start has come to its end, one way or the other."""
        for fd in self.starting:
            os.close(fd)
        self.starting.clear()
        self.is_waiting = False

    def close(self) -> None:
        """Let go of everything."""
        for fd in self._fds():
            os.close(fd)
        self.starting.clear()
        self.pidfd = self.stdin = None
        self.streams.clear()
        self.frames.clear()

"""A process as one program describes it to another: a shim to its daemon, and either of them to the next shim.

A description travels as JSON, together with duplicates of the process's file descriptors.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

FrameFields = Sequence[int]
"""A frame: stream, time in ms, offset in the stream, size in bytes. Size 0: the end of the stream."""


class StreamDescription(NamedTuple):
    """One captured stream.

    Attributes:
        stream: 1 for standard output, 2 for standard error.
        is_open: whether its pipe has not ended.
        trimmed_to: offset of the first byte that is still needed.
        sent_to: offset behind the last byte of which any daemon was told.
        segments: for each buffer file, the offset at which it begins, and its path if it is on disk.
        has_relay: whether the stream is a terminal's, whose output passes a pipe of the shim's own.
    """

    stream: int
    is_open: bool
    trimmed_to: int
    sent_to: int
    segments: Sequence[tuple[int, str | None]]
    has_relay: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the stream as a JSON object."""
        return {
            "stream": self.stream,
            "open": self.is_open,
            "trimmed_to": self.trimmed_to,
            "sent_to": self.sent_to,
            "segments": self.segments,
            **({"has_relay": True} if self.has_relay else {}),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "StreamDescription":
        """Make a stream from what `to_json` returned."""
        return cls(
            fields["stream"],
            fields["open"],
            fields["trimmed_to"],
            fields["sent_to"],
            fields["segments"],
            has_relay=fields.get("has_relay", False),
        )


class ProcessDescription(NamedTuple):
    """One process. `ProcessFds` are the descriptors that go with it.

    Attributes:
        group: path of its cgroup.
        has_pidfd: whether it has not been reaped.
        is_waiting: whether it waits at its gate.
        is_starting: whether the outcome of its start is not known yet.
        failed: `stage` and `errno` of a start that failed.
        timeout_ms: how long the program may run.
        deadline_ms: when that time is over, by the system's monotonic clock. None until the program runs.
        stdin_open: whether its standard input can be written to.
        exited: `ts_ms`, and `code` or `signal` (neither: nobody knows), `timed_out` and `oom_killed`. None: it runs.
        frames: frames that are not acknowledged, in the order in which they were read. Bytes of the segments behind
            the last frame of a stream were read when their file was last written to.
        ends: ends of the streams that have ended. None in what a shim tells its daemon, which gets them as output.
    """

    pid: int
    started_at_ms: int
    group: str | None
    has_pidfd: bool
    is_waiting: bool
    is_starting: bool
    failed: Mapping[str, int] | None
    timeout_ms: int | None
    deadline_ms: int | None
    stdin_open: bool
    exited: Mapping[str, int] | None
    streams: Sequence[StreamDescription]
    frames: Sequence[FrameFields]
    ends: Sequence[FrameFields] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the description as a JSON object, to which a message adds fields of its own."""
        fields = self._asdict()
        fields["streams"] = [stream.to_json() for stream in self.streams]
        if self.ends is None:
            del fields["ends"]
        return fields

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> "ProcessDescription":
        """Take a description out of a message."""
        fields = {name: message[name] for name in cls._fields if name != "ends"}
        fields["streams"] = [StreamDescription.from_json(stream) for stream in message["streams"]]
        return cls(**fields, ends=message.get("ends"))


class StreamFds(NamedTuple):
    """Descriptors of a stream.

    Attributes:
        pipe: its pipe, or the master of its terminal. None: it has ended.
        segments: its buffer files.
        relay: of a terminal, reading and writing end of the pipe through which its output passes; else empty.
    """

    pipe: int | None
    segments: Sequence[int]
    relay: Sequence[int] = ()


class ProcessFds(NamedTuple):
    """Descriptors of a process.

    Attributes:
        pidfd: None: it has been reaped.
        start: gate (if it is shut), outcome and report of a start whose outcome is not known; otherwise empty.
        stdin: the writing end of its standard input.
        streams: in the order of `ProcessDescription.streams`.
    """

    pidfd: int | None
    start: Sequence[int]
    stdin: int | None
    streams: Sequence[StreamFds]

    def in_order(self) -> list[int]:
        """Return the descriptors in the order in which they travel."""
        return list(self._iterate())

    def _iterate(self) -> Iterator[int]:
        if self.pidfd is not None:
            yield self.pidfd
        yield from self.start
        if self.stdin is not None:
            yield self.stdin
        for stream in self.streams:
            if stream.pipe is not None:
                yield stream.pipe
            yield from stream.segments
        for stream in self.streams:  # last, because a program that knows no terminals passes over them there
            yield from stream.relay

    @classmethod
    def assign(cls, description: ProcessDescription, fds: Sequence[int]) -> "ProcessFds":
        """Tell which of the descriptors that came with a description is which."""
        left = iter(fds)
        own = cls(
            pidfd=next(left) if description.has_pidfd else None,
            start=[next(left) for _ in range(description.is_waiting + 2 * description.is_starting)],
            stdin=next(left) if description.stdin_open else None,
            streams=[
                StreamFds(next(left) if stream.is_open else None, [next(left) for _ in stream.segments])
                for stream in description.streams
            ],
        )
        relays = [[next(left), next(left)] if stream.has_relay else () for stream in description.streams]
        streams = [fds._replace(relay=relay) for fds, relay in zip(own.streams, relays, strict=True)]
        return own._replace(streams=streams)

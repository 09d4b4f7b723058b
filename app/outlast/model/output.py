r"""Output as the store keeps it: chunks of whole lines (or parts of lines) and gaps, numbered across both streams.

A *line* is bytes that end with "\n", or what a stream ends with, or a piece of a line that is too long. A line whose
rest was late (after a prompt, say) is stored in *parts*, each with a sequence number of its own; the number and the
time of the line are those of its last part. A *gap* takes one sequence number, too, and may pass over any before it. It
stands where bytes are missing for good.
"""

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Self

_SAMPLE_BYTES = 2048
_LONG_LINE_BYTES = 48  # from about 40 bytes on, the copy is faster

MAX_UNSTORED_LINES = 1_000_000
"""How far the numbers that followers may have seen can be ahead of what is stored, for each process.

If all that holds these lines dies, the gap in their place has a higher number. A version of Outlast may lower this, and
must not raise it, because stores may have been left by an earlier one.
"""


class Stream(IntEnum):
    """Stream to which a line was written."""

    STDOUT = 1
    STDERR = 2

    @property
    def word(self) -> str:
        """Name of the stream: `stdout` or `stderr`."""
        return self.name.lower()


class GapReason(StrEnum):
    """Reason why output is missing.

    `LOST`: shim and daemon were killed at once, or the machine went down, so output written after this point was not
    read; or it was read and given up, because the store could not take it (`outlast shutdown --discard`).
    `STORE_REPLACED`: the store that held the output was replaced by an older copy.
    `RETENTION`: it was deleted because of a limit (`Trimmed`). Only `TrimGap` has this reason.
    """

    LOST = "lost"
    STORE_REPLACED = "store_replaced"
    RETENTION = "retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedLine:
    r"""The line without "\n" with which a stored stream ends. Its rest may come.

    Attributes:
        run: number of the run that wrote it.
        first_seq: sequence number of its first part.
        size: bytes of all its parts.
    """

    run: int
    first_seq: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a process's output is stored. The shim keeps only what comes after it.

    Attributes:
        last_seq: sequence number of the last stored line, part or gap; 0: none.
        lines: number of lines that are stored, or have a stored part.
        stdout_end: bytes of standard output, since the process's first start, that are stored or known to be missing.
        stderr_end: the same for standard error.
        stdout_line: the unfinished line of standard output, if there is one.
        stderr_line: the same for standard error.
    """

    last_seq: int = 0
    lines: int = 0
    stdout_end: int = 0
    stderr_end: int = 0
    stdout_line: UnfinishedLine | None = None
    stderr_line: UnfinishedLine | None = None

    def unfinished_line(self, stream: Stream) -> UnfinishedLine | None:
        """Return the unfinished line of a stream, if there is one."""
        return self.stdout_line if stream is Stream.STDOUT else self.stderr_line

    def after(self, chunk: "Chunk") -> "Position":
        """Return the position once `chunk`, which comes next, is stored."""
        line = _unfinished_line(self, chunk)
        is_stdout = chunk.stream is Stream.STDOUT
        return Position(
            last_seq=chunk.last_seq,
            lines=self.lines + (0 if chunk.gap else chunk.line_count - (chunk.continues > 0)),
            stdout_end=chunk.stdout_end,
            stderr_end=chunk.stderr_end,
            stdout_line=line if is_stdout else self.stdout_line,
            stderr_line=self.stderr_line if is_stdout else line,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    r"""Consecutive lines of one stream, read at one moment, or a gap in that stream.

    Attributes:
        handle: handle of the process.
        run: number of the run that wrote the chunk.
        first_seq: sequence number of the first line; the others follow without holes. That of a gap may be any that is
            greater than those before.
        line_count: sequence numbers that the chunk takes: one for each "\n" in `data`, plus one if `data` does not end
            with "\n". A gap takes one.
        continues: if `data` begins with the next part of the stream's unfinished line, the number of the line's first
            part; 0: `data` begins with a line of its own.
        stream: stream of the lines.
        ts_ms: time at which the chunk was read or the gap was found, in milliseconds since the epoch.
        stdout_end: `Position.stdout_end` once this chunk is stored.
        stderr_end: `Position.stderr_end` once this chunk is stored.
        data: the bytes exactly as written; empty in a gap, and in no other chunk.
        gap: reason why output is missing here. The end of its stream grows by the missing bytes, by 0 if their number
            is not known.
    """

    handle: int
    run: int
    first_seq: int
    line_count: int
    stream: Stream
    ts_ms: int
    stdout_end: int
    stderr_end: int
    data: bytes
    gap: GapReason | None = None
    continues: int = 0

    @classmethod
    def gap_after(
        cls,
        before: Position,
        *,
        handle: int,
        run: int,
        stream: Stream,
        missing_bytes: int,
        reason: GapReason,
        ts_ms: int,
        passed_over: int = 0,
    ) -> Self:
        """Return the gap that follows `before` and skips `missing_bytes` (>= 0) of `stream`.

        `passed_over`: how many numbers are not used, because followers may have seen lines with them.
        """
        return cls(
            handle=handle,
            run=run,
            first_seq=before.last_seq + passed_over + 1,
            line_count=1,
            stream=stream,
            ts_ms=ts_ms,
            stdout_end=before.stdout_end + missing_bytes * (stream is Stream.STDOUT),
            stderr_end=before.stderr_end + missing_bytes * (stream is Stream.STDERR),
            data=b"",
            gap=reason,
        )

    @property
    def last_seq(self) -> int:
        """Sequence number of the last line."""
        return self.first_seq + self.line_count - 1

    @property
    def ends_within_line(self) -> bool:
        r"""Whether the last line has no "\n"."""
        return not self.gap and not self.data.endswith(b"\n")

    def lines(self) -> list[bytes]:
        r"""Return the lines, each with its "\n" if it has one. A gap has no lines."""
        return split_lines(self.data)

    def after(self, seq: int) -> "Chunk":
        """Return the chunk without the lines up to and including `seq`.

        Raises:
            ValueError: no line (nor gap) would be left.
        """
        skip = seq - self.first_seq + 1
        if skip <= 0:
            return self
        if skip >= self.line_count:
            raise ValueError(f"no line after {seq} in a chunk that ends with {self.last_seq}")
        cut = 0
        for _ in range(skip):
            cut = self.data.index(b"\n", cut) + 1
        return replace(self, first_seq=seq + 1, line_count=self.line_count - skip, data=self.data[cut:], continues=0)

    def first(self, count: int) -> Self:
        """Return the chunk with only its first `count` (>= 1) lines, and the positions of the whole chunk."""
        if count < 1:
            raise ValueError("a chunk takes at least one sequence number")
        if count >= self.line_count:
            return self
        cut = 0
        for _ in range(count):
            cut = self.data.index(b"\n", cut) + 1
        return replace(self, line_count=count, data=self.data[:cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimGap(Chunk):
    """A gap in both streams, from the next line that a reader wants to the last one that retention has deleted.

    It is made when output is read, and never stored. Its `stream`, `run` and ends mean nothing.

    Attributes:
        trimmed: all that is deleted of the process's output.
    """

    trimmed: "Trimmed"

    def first(self, count: int) -> Self:
        """Return the gap up to its `count`-th number (>= 1)."""
        return replace(self, line_count=min(count, self.line_count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """Output of a process that retention has deleted: all of it up to `last_seq`.

    Attributes:
        last_seq: sequence number of the last line, part or gap that is deleted.
        lines: number of lines that are deleted. A line in parts counts if no part of it was stored behind `last_seq`.
        bytes: their bytes.
        until_ms: latest time of what is deleted.
    """

    last_seq: int
    lines: int
    bytes: int
    until_ms: int

    def is_since(self, since_ms: int | None) -> bool:
        """Tell whether some of it may have been read at this time or later. None: at any time."""
        return since_ms is None or since_ms <= self.until_ms

    def gap(self, query: "ChunkQuery") -> TrimGap | None:
        """Return the gap with which the answer to `query` begins; None if nothing that it wants is deleted."""
        if query.after_seq >= self.last_seq or not self.is_since(query.since_ms):
            return None
        return TrimGap(
            handle=query.handle,
            run=0,
            first_seq=query.after_seq + 1,
            line_count=self.last_seq - query.after_seq,
            stream=query.stream or Stream.STDOUT,
            ts_ms=self.until_ms,
            stdout_end=0,
            stderr_end=0,
            data=b"",
            gap=GapReason.RETENTION,
            trimmed=self,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkQuery:
    """Conditions on the chunks of one process to read. All of them must hold.

    For `since_ms` and `until_ms`, the time of a chunk is the latest `ts_ms` of its process, of either stream, up to and
    including the chunk. This is its own `ts_ms` unless the clock was set back. It never falls, so the two bounds select
    one range of the output.

    Attributes:
        handle: handle of the process.
        max_bytes: the answer ends with the chunk that brings its data to this size. At least one chunk is returned, if
            there is one; a gap has no data.
        after_seq: only lines and gaps with a greater sequence number.
        stream: only chunks of this stream.
        since_ms: only chunks with a time >= this.
        until_ms: only chunks with a time <= this.
        whole_lines: join the parts of each line. The line is where its last part is, and its earlier parts are left
            out, whether the conditions select them or not.
        seen_seq: with `whole_lines`, if this is the number of a part of a line, that line has no parts up to this one:
            the reader has them.
    """

    handle: int
    max_bytes: int
    after_seq: int = 0
    stream: Stream | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    whole_lines: bool = False
    seen_seq: int = 0


def _unfinished_line(before: Position, chunk: Chunk) -> UnfinishedLine | None:
    """Return the unfinished line of the chunk's stream once the chunk is stored after `before`."""
    if not chunk.ends_within_line:
        return None
    if chunk.continues and chunk.line_count == 1:
        begun = before.unfinished_line(chunk.stream)
        size = (begun.size if begun else 0) + len(chunk.data)
        return UnfinishedLine(run=chunk.run, first_seq=chunk.continues, size=size)
    size = len(chunk.data) - chunk.data.rfind(b"\n") - 1
    return UnfinishedLine(run=chunk.run, first_seq=chunk.last_seq, size=size)


def split_lines(data: bytes) -> list[bytes]:
    r"""Split `data` into its lines, each with its "\n" if it has one."""
    parts = data.split(b"\n")
    last = parts.pop()
    lines = [part + b"\n" for part in parts]
    if last:
        lines.append(last)
    return lines


def count_lines(data: bytes) -> int:
    r"""Return the number of lines in `data`: one for each "\n", plus one if bytes follow the last."""
    return _count_ends(data) + (not data.endswith(b"\n") and bool(data))


def _count_ends(data: bytes) -> int:
    r"""Count each "\n". Where lines are long, a copy without them takes half of the time of `bytes.count`."""
    if len(data) < 4 * _SAMPLE_BYTES or data.count(b"\n", 0, _SAMPLE_BYTES) > _SAMPLE_BYTES // _LONG_LINE_BYTES:
        return data.count(b"\n")
    return len(data) - len(data.replace(b"\n", b""))

r"""Output as it is kept: chunks of whole lines (or parts of lines) and gaps, numbered across both streams.

A *line* here is what one sequence number stands for: bytes that end with "\n", or a part of a line that
ends without one (a prompt, the last line of a process, a piece of an over-long line). A *gap* takes one
sequence number, too: it stands where bytes are missing that nothing can bring back.
"""

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Self


class Stream(IntEnum):
    """Where a line was written."""

    STDOUT = 1
    STDERR = 2

    @property
    def word(self) -> str:
        """`stdout` or `stderr`."""
        return self.name.lower()


class GapReason(StrEnum):
    """Why something is missing.

    `LOST`: nobody could see what the process wrote after this: the shim and the daemon were killed, or the machine
    went down. `STORE_REPLACED`: the store that was shown this was replaced by an older copy.
    """

    LOST = "lost"
    STORE_REPLACED = "store_replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a process's output is in the store: what the shim need not keep any longer.

    Attributes:
        last_seq: sequence number of the last stored line or gap, 0 before the first.
        stdout_end: count of the bytes of standard output that are stored or known to be missing, from the process's
            beginning.
        stderr_end: the same of standard error.
    """

    last_seq: int = 0
    stdout_end: int = 0
    stderr_end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    r"""Consecutive lines of one stream, read at one moment, or a gap in that stream.

    Attributes:
        handle: of the process.
        run: number of the run that wrote it.
        first_seq: sequence number of the first line; the others follow without holes.
        line_count: how many sequence numbers it takes. Those of the lines in `data`: its "\n", plus one if it does
            not end with "\n". A gap takes one.
        stream: which stream.
        ts_ms: when it was read, or the gap was found; milliseconds since the epoch.
        stdout_end: `Position.stdout_end` once this chunk is stored.
        stderr_end: `Position.stderr_end` once this chunk is stored.
        data: the bytes exactly as written; empty in a gap, and in no other chunk.
        gap: why something is missing here. Its stream's end then grows by what is missing, 0 if that isn't known.
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
    ) -> Self:
        """Make the gap that comes next after `before`. `missing_bytes` (>= 0): how many bytes of `stream` it skips."""
        return cls(
            handle=handle,
            run=run,
            first_seq=before.last_seq + 1,
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
    def position(self) -> Position:
        """The process's position once this chunk is stored."""
        return Position(last_seq=self.last_seq, stdout_end=self.stdout_end, stderr_end=self.stderr_end)

    def lines(self) -> list[bytes]:
        r"""Split into its lines, each with its "\n" if it has one. A gap has none."""
        return split_lines(self.data)

    def after(self, seq: int) -> "Chunk":
        """Drop the lines up to and including `seq`, which must leave at least one (or the gap)."""
        skip = seq - self.first_seq + 1
        if skip <= 0:
            return self
        if skip >= self.line_count:
            raise ValueError(f"no line after {seq} in a chunk that ends with {self.last_seq}")
        cut = 0
        for _ in range(skip):
            cut = self.data.index(b"\n", cut) + 1
        return replace(self, first_seq=seq + 1, line_count=self.line_count - skip, data=self.data[cut:])

    def first(self, count: int) -> "Chunk":
        """Keep the first `count` (>= 1) lines. The positions stay those of the whole chunk."""
        if count < 1:
            raise ValueError("a chunk takes at least one sequence number")
        if count >= self.line_count:
            return self
        cut = 0
        for _ in range(count):
            cut = self.data.index(b"\n", cut) + 1
        return replace(self, line_count=count, data=self.data[:cut])


def split_lines(data: bytes) -> list[bytes]:
    r"""Split `data` into its lines, each with its "\n" if it has one."""
    parts = data.split(b"\n")
    last = parts.pop()
    lines = [part + b"\n" for part in parts]
    if last:
        lines.append(last)
    return lines


def count_lines(data: bytes) -> int:
    r"""Count the lines in `data`: its "\n", plus one for a last part without."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))

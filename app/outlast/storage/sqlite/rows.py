"""Rows of output: a chunk, or several that follow one another."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from outlast.model.output import Chunk, GapReason, Stream
from outlast.storage.sqlite.codec import unseal

MAX_MERGED_LINES = 4096
"""Of a merged row. The view looks for the time of each line by counting, so its cost grows with the square."""

# How SQLite lays out a long row in pages of 16 KiB: full pages of its own, and the rest in the tree's page with others.
PAGE_BYTES = 16 * 1024 - 4
LEAST_LOCAL_BYTES = 2031
ROW_BYTES = 60
"""What a row takes besides its data and times."""

TIME_BYTES = 8
"""What the time of one chunk takes, about."""

TARGET_BYTES = 16 * PAGE_BYTES + LEAST_LOCAL_BYTES - ROW_BYTES
"""Of a merged row, its times included. One that comes close to it fills its pages."""

LARGE_BYTES = TARGET_BYTES // 8
"""A larger chunk stays as it is."""


class _Part(Protocol):
    """A chunk, or a row of chunks."""

    @property
    def run(self) -> int: ...

    @property
    def stream(self) -> int: ...

    @property
    def first_seq(self) -> int: ...

    @property
    def line_count(self) -> int: ...

    @property
    def data(self) -> bytes: ...


P = TypeVar("P", bound=_Part)


@dataclass(slots=True)
class Group(Generic[P]):
    """What may become one row: of one process, run and stream, without a hole or a part of a line in between.

    Attributes:
        size: how much of `TARGET_BYTES` it takes.
        lines: how many there are.
    """

    parts: list[P] = field(default_factory=list)
    size: int = 0
    lines: int = 0

    def takes(self, part: P, size: int) -> bool:
        """Tell whether `part`, which takes `size` bytes with its times, may join what is there."""
        last = self.parts[-1]
        return (
            (part.stream, part.run, part.first_seq) == (last.stream, last.run, last.first_seq + last.line_count)
            and last.data.endswith(b"\n")
            and self.size + size <= TARGET_BYTES
            and self.lines + part.line_count <= MAX_MERGED_LINES
        )

    def add(self, part: P, size: int) -> None:
        """Let it join."""
        self.parts.append(part)
        self.size += size
        self.lines += part.line_count


def times(ts_ms: int, parts: str) -> Iterator[tuple[int, int]]:
    """Give how many lines each chunk of a merged row has, and when it was read."""
    for part in json.loads(parts):
        lines, later_ms = part if isinstance(part, list) else (1, part)
        ts_ms += later_ms
        yield lines, ts_ms


def join_times(chunks: Sequence[tuple[int, int]]) -> tuple[int, str]:
    """Make the columns `ts` and `parts` of what `times` gives."""
    earliest_ms = before_ms = min(ts_ms for _, ts_ms in chunks)
    parts: list[int | tuple[int, int]] = []
    for lines, ts_ms in chunks:
        parts.append(ts_ms - before_ms if lines == 1 else (lines, ts_ms - before_ms))
        before_ms = ts_ms
    return earliest_ms, json.dumps(parts, separators=(",", ":"))


def chunks_of(handle: int, row: tuple[Any, ...], *, after_seq: int = 0) -> Iterator[Chunk]:
    """Make the chunks of the columns `queries.CHUNK` again, without those that end at or before `after_seq`.

    Raises:
        StorageError: it is sealed and can't be read.
    """
    run, first_seq, line_count, stream, ts, stdout_end, stderr_end, data, gap, parts, codec = row
    data = unseal(data, codec)
    row_end_seq = first_seq + line_count
    begin = 0
    for lines, ts_ms in [(line_count, ts)] if parts is None else times(ts, parts):
        end_seq = first_seq + lines
        if end_seq == row_end_seq:  # the only one whose last line may have no end
            end = len(data)
        else:
            end = begin
            for _ in range(lines):
                end = data.index(b"\n", end) + 1
        if end_seq - 1 > after_seq:
            behind = len(data) - end
            yield Chunk(
                handle=handle,
                run=run,
                first_seq=first_seq,
                line_count=lines,
                stream=Stream(stream),
                ts_ms=ts_ms,
                stdout_end=stdout_end - behind * (stream == Stream.STDOUT),
                stderr_end=stderr_end - behind * (stream == Stream.STDERR),
                data=data[begin:end],
                gap=gap and GapReason(gap),
            )
        begin, first_seq = end, end_seq

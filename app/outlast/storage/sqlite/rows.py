"""Rows of output: one chunk, or several that follow one another."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from outlast.model.output import Chunk, GapReason, Position, Stream, UnfinishedLine
from outlast.storage.sqlite.codec import decompress
from outlast.storage.sqlite.packed import BOTH_STREAMS, chunks_of_packed

MAX_MERGED_LINES = 4096
"""Maximum number of lines in a merged row. The view finds the time of a line by counting, at a cost that grows with
the square of the number."""

# SQLite stores a long row in full pages of its own, and the rest of it in a page of the tree, which it shares with
# other rows. These figures are for pages of 16 KiB.
PAGE_BYTES = 16 * 1024 - 4
LEAST_LOCAL_BYTES = 2031
ROW_BYTES = 66
"""Bytes of a row besides its data and times."""

TIME_BYTES = 8
"""Approximate bytes of the time of one chunk."""

TARGET_BYTES = 16 * PAGE_BYTES + LEAST_LOCAL_BYTES - ROW_BYTES
"""Maximum bytes of a merged row, its times included. A row of nearly this size fills its pages."""

LARGE_BYTES = TARGET_BYTES // 8
"""Maximum bytes of a chunk that is merged with others."""


def stored_bytes(data: bytes, parts: str | None) -> int:
    """Return the bytes of a row on the disk, given its columns `data` and `parts`. See `retention_queries.ROW_SIZE`."""
    return len(data) + len(parts or "") + ROW_BYTES


class _Member(Protocol):
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


M = TypeVar("M", bound=_Member)


@dataclass(slots=True)
class Group(Generic[M]):
    """Chunks or rows of one process and run that follow one another and may become one row.

    Attributes:
        size: the part of `TARGET_BYTES` that the group takes.
        lines: the number of lines.
    """

    members: list[M] = field(default_factory=list)
    size: int = 0
    lines: int = 0

    def continues_stream(self, member: M, size: int) -> bool:
        """Tell whether `member` `fits`, is of the group's stream, and begins behind a whole line."""
        last = self.members[-1]
        return member.stream == last.stream and last.data.endswith(b"\n") and self.fits(member, size)

    def fits(self, member: M, size: int) -> bool:
        """Tell whether `member`, which takes `size` bytes with its times, comes next, and the group has room for it."""
        last = self.members[-1]
        return (
            (member.run, member.first_seq) == (last.run, last.first_seq + last.line_count)
            and self.size + size <= TARGET_BYTES
            and self.lines + member.line_count <= MAX_MERGED_LINES
        )

    def append(self, member: M, size: int) -> None:
        """Append `member`, which takes `size` bytes with its times."""
        self.members.append(member)
        self.size += size
        self.lines += member.line_count


def chunk_times(ts_ms: int, parts: str) -> Iterator[tuple[int, int]]:
    """Yield the number of lines and the time of each chunk of a merged row, from its columns `ts` and `parts`."""
    entries = json.loads(parts)
    for entry in entries if isinstance(entries, list) else entries["chunks"]:
        lines, later_ms, *_ = entry if isinstance(entry, list) else (1, entry)
        ts_ms += later_ms
        yield lines, ts_ms


def encode_chunk_times(chunks: Sequence[tuple[int, int]]) -> tuple[int, str]:
    """Return the columns `ts` and `parts` from which `chunk_times` yields `chunks`."""
    earliest_ms = before_ms = min(ts_ms for _, ts_ms in chunks)
    parts: list[int | tuple[int, int]] = []
    for lines, ts_ms in chunks:
        parts.append(ts_ms - before_ms if lines == 1 else (lines, ts_ms - before_ms))
        before_ms = ts_ms
    return earliest_ms, json.dumps(parts, separators=(",", ":"))


def position_from_rows(stdout: Sequence[Any], stderr: Sequence[Any], packed: Sequence[Any]) -> Position:
    """Return the position of a process from the last row of each stream and its last packed row.

    Args:
        stdout: the columns `queries.LAST_OF_STREAM`, or only NULLs, if there is no such row.
        stderr: likewise.
        packed: likewise.
    """
    last_seq, lines, stdout_end, stderr_end, *_ = max(stdout, stderr, packed, key=lambda end: end[0] or 0)
    return Position(
        last_seq=last_seq or 0,
        lines=lines or 0,
        stdout_end=stdout_end or 0,
        stderr_end=stderr_end or 0,
        stdout_line=_unfinished_line(*stdout[4:7]) if (packed[2] or 0) <= (stdout[2] or 0) else None,
        stderr_line=_unfinished_line(*stderr[4:7]) if (packed[3] or 0) <= (stderr[3] or 0) else None,
    )


def _unfinished_line(run: int, first_seq: int, size: int | None) -> UnfinishedLine | None:
    return UnfinishedLine(run=run, first_seq=first_seq, size=size) if size else None


def is_packed(row: tuple[Any, ...]) -> bool:
    """Tell whether a row (the columns `queries.CHUNK`) is packed."""
    return bool(row[3] == BOTH_STREAMS)


def chunks_of(handle: int, row: tuple[Any, ...], *, after_seq: int = 0) -> Iterator[Chunk]:
    """Yield the chunks of a row (the columns `queries.CHUNK`), but for those that end at or before `after_seq`.

    Raises:
        StorageError: the row is compressed and cannot be decompressed.
    """
    run, first_seq, line_count, stream, ts, stdout_end, stderr_end, continues, data, gap, parts, codec = row
    data = decompress(data, codec)
    if stream == BOTH_STREAMS:
        ends = stdout_end, stderr_end
        packed = chunks_of_packed(handle=handle, run=run, first_seq=first_seq, ts=ts, ends=ends, data=data, parts=parts)
        yield from (chunk for chunk in packed if chunk.last_seq > after_seq)
        return
    row_end_seq = first_seq + line_count
    begin = 0
    for lines, ts_ms in [(line_count, ts)] if parts is None else chunk_times(ts, parts):
        end_seq = first_seq + lines
        if end_seq == row_end_seq:  # only the last chunk may end without a line's end
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
                continues=continues,
            )
        begin, first_seq, continues = end, end_seq, 0

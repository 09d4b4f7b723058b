"""Rows of output: a chunk a row as it comes, and later several that follow one another in one row."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from app.model.output import Chunk, GapReason, Stream
from app.storage.sqlite.codec import unseal

MAX_MERGED_LINES = 4096
"""Of a merged row. The view looks for the time of each line by counting, so its cost grows with the square."""


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

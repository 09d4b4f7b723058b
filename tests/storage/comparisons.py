"""Comparisons of what is read of a process's output with its chunks."""

import sqlite3
from collections.abc import Iterable, Sequence

from outlast.model.histogram import HistogramQuery
from outlast.model.output import Chunk, Stream
from outlast.storage.histogram import HistogramBuilder
from outlast.storage.sqlite import read
from outlast.storage.sqlite.histogram import count_lines_by_time
from outlast.testing.storage.model import whole_lines


def check_histogram(db: sqlite3.Connection, handle: int, chunks: Sequence[Chunk]) -> None:
    """Check that the lines of `chunks`, which are all output of a process, are counted where they were read."""
    first, last = min(chunk.ts_ms for chunk in chunks), max(chunk.ts_ms for chunk in chunks)
    for buckets, since, until in ((1, None, None), (2, None, None), (7, 2, 3), (99, None, None), (1000, 4, None)):
        query = HistogramQuery(handle=handle, buckets=buckets, since_ms=since, until_ms=until)
        builder = HistogramBuilder(query, first, last)
        for chunk in chunks:
            builder.add(chunk.stream, chunk.ts_ms, 0 if chunk.gap else chunk.line_count - (chunk.continues > 0))
        assert count_lines_by_time(db, query) == builder.build()


def check_tail(
    db: sqlite3.Connection, handle: int, chunks: Sequence[Chunk], befores: Iterable[int | None] = (None,)
) -> None:
    """Check that any number of last lines is found, of each stream, and before each number of `befores`."""
    for stream in (None, *Stream):
        lines = [line for line in whole_lines(chunks) if stream in (None, line.stream) and line.text() is not None]
        for before in befores:
            seqs = [line.seq for line in lines if before is None or line.seq < before]
            for count in range(len(seqs) + 2):
                after = read.tail(db, handle, count, stream, before)
                tail = [seq for seq in seqs if seq > after]
                assert tail == seqs[max(0, len(seqs) - count) :], (stream, count, before)

"""Comparison of a process's histogram with its chunks."""

import sqlite3
from collections.abc import Sequence

from outlast.model.histogram import HistogramQuery
from outlast.model.output import Chunk
from outlast.storage.histogram import HistogramBuilder
from outlast.storage.sqlite.histogram import count_lines_by_time


def check_histogram(db: sqlite3.Connection, handle: int, chunks: Sequence[Chunk]) -> None:
    """Check that the lines of `chunks`, which are all output of a process, are counted where they were read."""
    first, last = min(chunk.ts_ms for chunk in chunks), max(chunk.ts_ms for chunk in chunks)
    for buckets, since, until in ((1, None, None), (2, None, None), (7, 2, 3), (99, None, None), (1000, 4, None)):
        query = HistogramQuery(handle=handle, buckets=buckets, since_ms=since, until_ms=until)
        builder = HistogramBuilder(query, first, last)
        for chunk in chunks:
            builder.add(chunk.stream, chunk.ts_ms, 0 if chunk.gap else chunk.line_count - (chunk.continues > 0))
        assert count_lines_by_time(db, query) == builder.build()

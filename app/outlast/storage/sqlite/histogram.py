"""The histogram of a process's output, from the columns that stand before the data: the data are not read."""

import json
import sqlite3
from itertools import accumulate

from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import Stream
from outlast.storage.histogram import HistogramBuilder, empty_histogram
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.packed import BOTH_STREAMS, pieces_of, single_lines
from outlast.storage.sqlite.rows import chunk_times
from outlast.storage.sqlite.trimming import trimmed_of


def count_lines_by_time(db: sqlite3.Connection, query: HistogramQuery) -> Histogram:
    """Implement `Storage.histogram`."""
    trimmed = trimmed_of(db, query.handle)
    where = {"handle": query.handle, "mark": trimmed.last_seq if trimmed else 0}
    first_ms, last_ms = db.execute(queries.OUTPUT_TIMES, where).fetchone()
    if first_ms is None:
        return empty_histogram(query, trimmed)
    builder = HistogramBuilder(query, first_ms, last_ms, trimmed)
    for first_seq, number, ts, latest_ts, lines, continues, parts in db.execute(queries.LINES_BY_TIME, where):
        if number == BOTH_STREAMS:
            _add_packed(builder, first_seq, ts, parts)
            continue
        stream = Stream(number)
        begins_with_rest = builder.begins_with_rest(stream, continues)
        if parts is None or builder.is_in_one(ts, latest_ts):
            builder.add(stream, ts, lines - begins_with_rest)
        else:
            _add_parts(builder, stream, ts, parts)
            if begins_with_rest:
                builder.add(stream, next(iter(chunk_times(ts, parts)))[1], -1)
    return builder.build()


def _add_packed(builder: HistogramBuilder, first_seq: int, ts: int, parts: str) -> None:
    """Count the lines of a packed row."""
    times = single_lines(ts, parts)
    if times is None:
        for piece in pieces_of(first_seq, parts):
            builder.add(piece.stream, ts + piece.ts_ms, piece.line_count - (piece.continues > 0))
        return
    for stream, times_ms in times.items():
        builder.add_each(stream, times_ms)


def _add_parts(builder: HistogramBuilder, stream: Stream, ts: int, parts: str) -> None:
    """Count the lines of a merged row, all parts of lines included."""
    if "[" not in parts[1:] and "-" not in parts:  # each chunk is one line, and no clock was set back: the usual case
        _, *times_ms = accumulate(json.loads(parts), initial=ts)
        builder.add_each(stream, times_ms)
        return
    for lines, ts_ms in chunk_times(ts, parts):
        builder.add(stream, ts_ms, lines)

"""Reads of processes and output: each function is the work of one read transaction, on a reader's thread."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import Order, Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage.base import Unfinished
from outlast.storage.sql.mapping import managed_from_text, output_summary, run_from_row, spec_from_row
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.listing import MAX_INTEGER, list_query
from outlast.storage.sqlite.packed import BOTH_STREAMS, pieces_of
from outlast.storage.sqlite.parts import whole_lines
from outlast.storage.sqlite.rows import chunk_times, chunks_of, is_packed, position_from_rows
from outlast.storage.whole_lines import Span, find_tail


def one_process(db: sqlite3.Connection, page: str, parameters: Mapping[str, object]) -> Process | None:
    """Return the process that the SQL query `page` selects, if there is one."""
    found = _page(db, page, parameters, ascending=True)
    return found[0].process if found else None


def unfinished(db: sqlite3.Connection) -> list[Unfinished]:
    """Implement `Storage.unfinished`."""
    return _page(db, queries.PAGE_UNFINISHED, {}, ascending=True)


def supervised(db: sqlite3.Connection) -> list[Process]:
    """Implement `Storage.supervised`."""
    return [found.process for found in _page(db, queries.PAGE_SUPERVISED, {}, ascending=True)]


def runs(db: sqlite3.Connection, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
    """Implement `Storage.runs`."""
    before = MAX_INTEGER if before_number is None else before_number
    return [run_from_row(row) for row in db.execute(queries.RUNS, (handle, before, limit))]


def processes(db: sqlite3.Connection, query: ProcessQuery) -> list[Process]:
    """Implement `Storage.processes`."""
    page, parameters = list_query(db, query)
    found = _page(db, page, parameters, ascending=query.order is Order.OLDEST)
    return [entry.process for entry in found]


def resizes(db: sqlite3.Connection, handle: int) -> list[Resize]:
    """Implement `Storage.resizes`."""
    return [Resize(ts_ms=ts, rows=rows, cols=cols) for ts, rows, cols in db.execute(queries.SIZES, (handle,))]


def usage(db: sqlite3.Connection, handle: int, run: int) -> RunUsage | None:
    """Implement `Storage.usage`."""
    row = db.execute(queries.USAGE, (handle, run)).fetchone()
    if row is None:
        return None
    history, *peaks = row
    return RunUsage(
        peak=PeakUsage(**dict(zip(queries.PEAKS, peaks, strict=True))),
        history=tuple(UsageSample(*sample) for sample in json.loads(history or "[]")),
    )


def total(db: sqlite3.Connection) -> int:
    """Implement `Storage.total`."""
    count: int = db.execute(queries.TOTAL).fetchone()[0]
    return count


def chunks(db: sqlite3.Connection, query: ChunkQuery) -> list[Chunk]:
    """Implement `Storage.chunks`."""
    if not _is_stored(db, query.handle):
        return []
    after, upto = query.after_seq, MAX_INTEGER
    if query.since_ms is not None:
        after = max(after, _first_seq_since(db, query.handle, query.since_ms) - 1)
    if query.until_ms is not None:
        upto = _first_seq_since(db, query.handle, query.until_ms + 1) - 1
    found: list[Chunk] = []
    size = 0
    keys = db.execute(queries.CHUNK_KEYS[query.stream], {"handle": query.handle, "after": after, "upto": upto})
    for chunk_id, _ in keys:
        row = db.execute(queries.CHUNK_AFTER, (chunk_id, after)).fetchone()
        if row is None:  # it ends at or before `after`
            continue
        for chunk in _wanted(db, query, row, after, upto):
            found.append(chunk)
            size += len(chunk.data)
            if size >= query.max_bytes:
                return found
    return found


def _wanted(db: sqlite3.Connection, query: ChunkQuery, row: tuple[Any, ...], after: int, upto: int) -> Iterator[Chunk]:
    """Yield the chunks of a row (the columns `queries.CHUNK`) up to the line `upto`, without lines up to `after`."""
    packed = list(chunks_of(query.handle, row)) if is_packed(row) else None
    for chunk in packed or chunks_of(query.handle, row, after_seq=after):
        if chunk.first_seq > upto:
            return
        if packed and (chunk.last_seq <= after or query.stream not in (None, chunk.stream)):
            continue
        rest = chunk.after(after)
        wanted = whole_lines(db, rest, packed=packed, seen_seq=query.seen_seq) if query.whole_lines else rest
        if wanted is not None:
            yield wanted


def tail(db: sqlite3.Connection, handle: int, lines: int, stream: Stream | None) -> int:
    """Implement `Storage.tail`."""
    if not _is_stored(db, handle):
        return 0
    rows = db.execute(queries.SPANS_BACKWARDS[stream], {"handle": handle})
    return find_tail(_spans(rows, stream), lines)


def _spans(rows: Iterable[tuple[Any, ...]], stream: Stream | None) -> Iterator[Span]:
    """Yield the spans of rows (the columns `queries.SPANS_BACKWARDS`), and one for each piece of a packed row."""
    for first_seq, line_count, number, is_gap, continues, parts in rows:
        if number != BOTH_STREAMS:
            yield Span(first_seq, line_count, Stream(number), bool(is_gap), continues)
            continue
        for piece in reversed(list(pieces_of(first_seq, parts))):
            if stream in (None, piece.stream):
                yield Span(piece.first_seq, piece.line_count, piece.stream, False, piece.continues)


def _page(db: sqlite3.Connection, page: str, parameters: Mapping[str, object], *, ascending: bool) -> list[Unfinished]:
    order = "ASC" if ascending else "DESC"
    sql = f"WITH page AS MATERIALIZED ({page}) {queries.PROCESS_COLUMNS} ORDER BY p.handle {order}"
    return [_process(row) for row in db.execute(sql, parameters)]


def _process(row: tuple[Any, ...]) -> Unfinished:
    handle, spec, (managed, tags) = row[0], row[1:14], row[14:16]
    position = position_from_rows(row[24:31], row[31:38], row[38:45])
    process = Process(
        handle=handle,
        spec=spec_from_row(spec, tags),
        run=run_from_row(row[16:24]),
        output=output_summary(position, missing_bytes=row[45]),
        managed=managed_from_text(managed),
    )
    return Unfinished(process, position)


def _is_stored(db: sqlite3.Connection, handle: int) -> bool:
    return db.execute(queries.IS_STORED, (handle,)).fetchone() is not None


def _last_seq(db: sqlite3.Connection, handle: int) -> int:
    ends = [db.execute(queries.LAST_OF_STREAM, (handle, stream)).fetchone() for stream in (*Stream, BOTH_STREAMS)]
    return max((end[0] for end in ends if end), default=0)


def _first_seq_since(db: sqlite3.Connection, handle: int, ms: int) -> int:
    """Return the first line of the first chunk with `latest_ts` >= `ms`, or the line after the last.

    A binary search over sequence numbers, because `latest_ts` never falls: about 20 lookups for a million chunks. An
    index on time would cost every commit.
    """
    low, high = 1, _last_seq(db, handle) + 1
    while low < high:
        middle = (low + high) // 2
        at = [db.execute(queries.CHUNK_AT, (handle, stream, middle)).fetchone() for stream in (BOTH_STREAMS, *Stream)]
        first_seq, line_count, latest_ts = max(row for row in at if row)
        if latest_ts >= ms:
            high = first_seq
        else:
            low = first_seq + line_count
    for stream in (BOTH_STREAMS, *Stream):
        row = db.execute(queries.TIMES_AT, (handle, stream, low)).fetchone()
        for lines, ts_ms in chunk_times(*row) if row else ():
            if ts_ms >= ms:
                return low
            low += lines
    return low

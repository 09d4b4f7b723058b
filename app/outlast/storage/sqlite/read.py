"""Reads of processes and output: each function is the work of one read transaction, on a reader's thread."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import Order, Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage.base import EndedProcess, Unfinished
from outlast.storage.sql.mapping import managed_from_text, output_summary, run_from_row, spec_from_row
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.listing import MAX_INTEGER, list_query
from outlast.storage.sqlite.packed import BOTH_STREAMS, pieces_of
from outlast.storage.sqlite.parts import whole_lines
from outlast.storage.sqlite.rows import chunk_times, chunks_of, is_packed, position_from_rows
from outlast.storage.sqlite.trimming import ended_by_own_limit, trimmed_from_row, trimmed_of
from outlast.storage.whole_lines import End, Span, find_tail


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


def ended(
    db: sqlite3.Connection,
    *,
    limit: int,
    after: EndedProcess | None,
    until_ms: int | None,
    own_until_ms: int | None = None,
) -> list[EndedProcess]:
    """Implement `Storage.ended`."""
    if own_until_ms is not None:
        return ended_by_own_limit(db, limit=limit, until_ms=own_until_ms)
    parameters = {
        "ended_at": after.ended_at_ms if after else -MAX_INTEGER,
        "handle": after.handle if after else 0,
        "until": MAX_INTEGER if until_ms is None else until_ms,
        "by_age": until_ms is not None,
        "limit": limit,
    }
    return [EndedProcess(*row) for row in db.execute(queries.ENDED, parameters)]


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
    trimmed = trimmed_of(db, query.handle)
    gap = trimmed.gap(query) if trimmed else None
    mark = trimmed.last_seq if trimmed else 0
    after, upto = max(query.after_seq, mark), MAX_INTEGER
    if query.since_ms is not None:
        after = max(after, _first_seq_since(db, query.handle, query.since_ms, mark) - 1)
    if query.until_ms is not None:
        upto = _first_seq_since(db, query.handle, query.until_ms + 1, mark) - 1
    found: list[Chunk] = [gap] if gap else []
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


def tail(db: sqlite3.Connection, handle: int, lines: int, stream: Stream | None, before: int | None = None) -> int:
    """Implement `Storage.tail`."""
    if not _is_stored(db, handle):
        return 0
    trimmed = trimmed_of(db, handle)
    mark, end = trimmed.last_seq if trimmed else 0, MAX_INTEGER if before is None else before
    if end <= mark:
        return 0
    rows = db.execute(queries.SPANS_BACKWARDS[stream], {"handle": handle, "mark": mark, "before": end})
    spans = _spans(rows, stream, end)
    if before is None:
        return find_tail(spans, lines)
    return find_tail(spans, lines, End(before, _continued_at(db, handle, before)))


def _spans(rows: Iterable[tuple[Any, ...]], stream: Stream | None, before: int) -> Iterator[Span]:
    """Yield the spans of rows (the columns `queries.SPANS_BACKWARDS`), and one for each piece of a packed row.

    `before`: only spans that begin before this number.
    """
    for first_seq, line_count, number, is_gap, continues, parts in rows:
        if number != BOTH_STREAMS:
            yield Span(first_seq, line_count, Stream(number), bool(is_gap), continues)
            continue
        for piece in reversed(list(pieces_of(first_seq, parts))):
            if piece.first_seq < before and stream in (None, piece.stream):
                yield Span(piece.first_seq, piece.line_count, piece.stream, False, piece.continues)


def _continued_at(db: sqlite3.Connection, handle: int, seq: int) -> dict[Stream, bool]:
    """Tell whether the first chunk of each stream that begins at `seq` or later continues a line."""
    packed = db.execute(queries.PACKED_OVER, (handle, seq)).fetchone()
    if packed is None:
        behind = {stream: db.execute(queries.CONTINUES_NEXT, (handle, stream, seq - 1)).fetchone() for stream in Stream}
        return {stream: row is not None and row[0] > 0 for stream, row in behind.items()}
    continued = dict.fromkeys(Stream, False)  # no line goes on behind a packed row
    for piece in reversed(list(pieces_of(*packed))):
        if piece.first_seq >= seq:
            continued[piece.stream] = piece.continues > 0
    return continued


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
        output=output_summary(
            position,
            missing_bytes=row[45],
            latest_ms=row[46],
            trimmed=trimmed_from_row(row[47:51]),
            trimmed_end=row[51],
        ),
        managed=managed_from_text(managed),
    )
    return Unfinished(process, position)


def _is_stored(db: sqlite3.Connection, handle: int) -> bool:
    return db.execute(queries.IS_STORED, (handle,)).fetchone() is not None


def _last_seq(db: sqlite3.Connection, handle: int) -> int:
    ends = [db.execute(queries.LAST_OF_STREAM, (handle, stream)).fetchone() for stream in (*Stream, BOTH_STREAMS)]
    return max((end[0] for end in ends if end), default=0)


def _first_seq_since(db: sqlite3.Connection, handle: int, ms: int, mark: int) -> int:
    """Return the first line, behind `mark`, of the first chunk with `latest_ts` >= `ms`, or the line after the last.

    A binary search over sequence numbers, because `latest_ts` never falls: about 20 lookups for a million chunks,
    or for the numbers that a gap passes over. An index on time would cost every commit.
    """
    low, high = mark + 1, _last_seq(db, handle) + 1
    while low < high:
        middle = (low + high) // 2
        at = [db.execute(queries.CHUNK_AT, (handle, stream, middle)).fetchone() for stream in (BOTH_STREAMS, *Stream)]
        # The row that holds `middle`, or the last one before it; none if the output begins with a gap behind it.
        first_seq, line_count, latest_ts = max((row for row in at if row), default=(middle, 0, None))
        if latest_ts is not None and latest_ts >= ms:
            high = first_seq
        else:
            low = max(first_seq + line_count, middle + 1)
    for stream in (BOTH_STREAMS, *Stream):
        row = db.execute(queries.TIMES_AT, (handle, stream, low)).fetchone()
        for lines, ts_ms in chunk_times(*row) if row else ():
            if ts_ms >= ms:
                return low
            low += lines
    return low

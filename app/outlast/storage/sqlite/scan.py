"""Scans of the output of all processes, in the order in which it was stored: that of the rows' ids.

A position is a row's id and, in the low bits, the number of a chunk in the row: the last chunk has the highest.
"""

import sqlite3

from outlast.model.output import Chunk
from outlast.model.process import Order
from outlast.model.scan import ScanPage, ScanQuery
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.listing import MAX_INTEGER
from outlast.storage.sqlite.parts import whole_lines
from outlast.storage.sqlite.rows import MAX_MERGED_LINES, chunks_of, is_packed

_CHUNKS_IN_ROW = MAX_MERGED_LINES
_AFTER_ALL = _CHUNKS_IN_ROW * 2**50


def scan_output(db: sqlite3.Connection, query: ScanQuery) -> ScanPage:
    """Implement `Storage.scan`."""
    newest = query.order is Order.NEWEST
    begin = query.position if query.position is not None else _AFTER_ALL if newest else -1
    first_id = 0 if query.since_ms is None else db.execute(queries.FIRST_SINCE, {"since": query.since_ms}).fetchone()[0]
    where = {
        "id": (begin - 1) // _CHUNKS_IN_ROW if newest else max((begin + 1) // _CHUNKS_IN_ROW, first_id),
        "first": first_id,
        "count": query.max_chunks,
        "handle": query.handle,
        "begin": MAX_INTEGER if newest else 0,
    }
    ids = queries.SCAN_ALL if query.handle is None else queries.SCAN_PROCESS
    found: list[tuple[int, Chunk]] = []
    size = examined = row_id = 0
    for row_id, *_ in db.execute(ids[query.order], where):
        examined += 1
        chunks, packed = _matching_chunks(db, row_id, query)
        for position, chunk in chunks:
            if position >= begin if newest else position <= begin:
                continue
            whole = whole_lines(db, chunk, packed=packed)
            if whole is None:
                continue
            found.append((position, whole))
            size += len(whole.data)
            if size >= query.max_bytes or len(found) == query.max_chunks:
                return ScanPage(chunks=found, position=position)
    if examined < query.max_chunks:
        return ScanPage(chunks=found, position=None)
    return ScanPage(chunks=found, position=row_id * _CHUNKS_IN_ROW + (0 if newest else _CHUNKS_IN_ROW - 1))


def row_range(page: ScanPage) -> tuple[int, int] | None:
    """Return the lowest and the highest id of the rows within which a reader of `page` may stop. None: no row."""
    positions = [position for position, _ in page.chunks]
    if page.position is not None:
        positions.append(page.position)
    return (min(positions) // _CHUNKS_IN_ROW, max(positions) // _CHUNKS_IN_ROW) if positions else None


def _matching_chunks(
    db: sqlite3.Connection, row_id: int, query: ScanQuery
) -> tuple[list[tuple[int, Chunk]], list[Chunk] | None]:
    """Return the matching chunks of a row with their positions, in the order of the scan, and all of a packed row.

    Each row is read by itself: a join would read the data of all rows before it returned the first.
    """
    bounds = {"id": row_id, "stream": query.stream, "since": query.since_ms, "until": query.until_ms}
    row = db.execute(queries.SCANNED, bounds).fetchone()
    if row is None:
        return [], None
    handle, columns = row[0], row[1:]
    chunks = list(chunks_of(handle, columns))
    with_positions = enumerate(chunks, (row_id + 1) * _CHUNKS_IN_ROW - len(chunks))
    matching = [(position, chunk) for position, chunk in with_positions if _is_wanted(query, chunk)]
    if query.order is Order.NEWEST:
        matching.reverse()
    return matching, chunks if is_packed(columns) else None


def _is_wanted(query: ScanQuery, chunk: Chunk) -> bool:
    """Compare a chunk's own stream and time: SQLite has compared those of its row."""
    return (
        query.stream in (None, chunk.stream)
        and (query.since_ms is None or chunk.ts_ms >= query.since_ms)
        and (query.until_ms is None or chunk.ts_ms <= query.until_ms)
    )

"""Reading the output of all processes by the order in which it was stored: that of the rows' ids.

A position is a row's id and, in the low bits, which of the row's chunks: counted so that the last has the highest.
"""

import sqlite3
from collections.abc import Iterator

from outlast.model.output import Chunk
from outlast.model.process import Order
from outlast.model.scan import ScanPage, ScanQuery
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.listing import MAX_INTEGER
from outlast.storage.sqlite.rows import MAX_MERGED_LINES, chunks_of

_IN_ROW = MAX_MERGED_LINES
_END = _IN_ROW * 2**50


def scan(db: sqlite3.Connection, asked: ScanQuery) -> ScanPage:
    """Implement `Storage.scan`."""
    newest = asked.order is Order.NEWEST
    begin = asked.position if asked.position is not None else _END if newest else -1
    first_id = 0 if asked.since_ms is None else db.execute(queries.FIRST_SINCE, {"since": asked.since_ms}).fetchone()[0]
    where = {
        "id": (begin - 1) // _IN_ROW if newest else max((begin + 1) // _IN_ROW, first_id),
        "first": first_id,
        "count": asked.max_chunks,
        "handle": asked.handle,
        "begin": MAX_INTEGER if newest else 0,
    }
    ids = queries.SCAN_ALL if asked.handle is None else queries.SCAN_PROCESS
    found: list[tuple[int, Chunk]] = []
    size = looked_at = row_id = 0
    for row_id, *_ in db.execute(ids[asked.order], where):
        looked_at += 1
        for position, chunk in _chunks(db, row_id, asked):
            if position >= begin if newest else position <= begin:
                continue
            found.append((position, chunk))
            size += len(chunk.data)
            if size >= asked.max_bytes or len(found) == asked.max_chunks:
                return ScanPage(chunks=found, position=position)
    if looked_at < asked.max_chunks:
        return ScanPage(chunks=found, position=None)
    return ScanPage(chunks=found, position=row_id * _IN_ROW + (0 if newest else _IN_ROW - 1))


def rows_of(scanned: ScanPage) -> tuple[int, int] | None:
    """Return the ids of the rows, the lowest and the highest, between which somebody may stop. None: nowhere."""
    positions = [position for position, _ in scanned.chunks]
    if scanned.position is not None:
        positions.append(scanned.position)
    return (min(positions) // _IN_ROW, max(positions) // _IN_ROW) if positions else None


def _chunks(db: sqlite3.Connection, row_id: int, asked: ScanQuery) -> Iterator[tuple[int, Chunk]]:
    """Give what is wanted of a row, in the order of the scan.

    Each row is read by itself: a join would read the data of all of them before it gave the first.
    """
    wanted = {"id": row_id, "stream": asked.stream, "since": asked.since_ms, "until": asked.until_ms}
    row = db.execute(queries.SCANNED, wanted).fetchone()
    if row is None:
        return
    handle, *columns = row
    chunks = list(chunks_of(handle, tuple(columns)))
    placed = list(enumerate(chunks, (row_id + 1) * _IN_ROW - len(chunks)))
    for position, chunk in reversed(placed) if asked.order is Order.NEWEST else placed:
        if _is_wanted(asked, chunk):
            yield position, chunk


def _is_wanted(asked: ScanQuery, chunk: Chunk) -> bool:
    """Look at a chunk's own time: what is asked of SQLite is that of its row."""
    return (asked.since_ms is None or chunk.ts_ms >= asked.since_ms) and (
        asked.until_ms is None or chunk.ts_ms <= asked.until_ms
    )

"""Reading the output of all processes by the order in which it was stored: that of the rows' ids.

A position is a row's id and, in the low bits, which of the row's chunks: counted so that the last has the highest.
"""

import sqlite3
from collections.abc import Iterator

from app.model.output import Chunk
from app.model.process import Order
from app.model.scan import Scan, Scanned
from app.storage.sqlite import queries
from app.storage.sqlite.rows import MAX_MERGED_LINES, chunks_of

_IN_ROW = MAX_MERGED_LINES
_END = _IN_ROW * 2**50


def scan(db: sqlite3.Connection, asked: Scan) -> Scanned:
    """Implement `Storage.scan`."""
    newest = asked.order is Order.NEWEST
    begin = asked.position if asked.position is not None else _END if newest else -1
    parameters = {
        "id": (begin - 1 if newest else begin + 1) // _IN_ROW,
        "count": asked.max_chunks,
        "handle": asked.handle,
        "stream": asked.stream,
        "since": asked.since_ms,
        "until": asked.until_ms,
    }
    ids = db.execute(queries.SCAN_END[asked.order], parameters).fetchall()
    found: list[tuple[int, Chunk]] = []
    size = 0
    for row_id, handle, *columns in db.execute(queries.SCAN[asked.order], parameters):
        chunks = list(chunks_of(handle, tuple(columns)))
        last = row_id * _IN_ROW + _IN_ROW - 1
        for position, chunk in _placed(chunks, last, newest=newest):
            if not _is_wanted(asked, chunk) or (position >= begin if newest else position <= begin):
                continue
            found.append((position, chunk))
            size += len(chunk.data)
            if size >= asked.max_bytes or len(found) == asked.max_chunks:
                return Scanned(chunks=found, position=position)
    if len(ids) < asked.max_chunks:
        return Scanned(chunks=found, position=None)
    (last_id,) = ids[-1]
    return Scanned(chunks=found, position=last_id * _IN_ROW + (0 if newest else _IN_ROW - 1))


def rows_of(scanned: Scanned) -> tuple[int, int] | None:
    """Return the ids of the rows, the lowest and the highest, between which somebody may stop. None: nowhere."""
    positions = [position for position, _ in scanned.chunks]
    if scanned.position is not None:
        positions.append(scanned.position)
    return (min(positions) // _IN_ROW, max(positions) // _IN_ROW) if positions else None


def _placed(chunks: list[Chunk], last: int, *, newest: bool) -> Iterator[tuple[int, Chunk]]:
    first = last + 1 - len(chunks)
    return reversed(list(enumerate(chunks, first))) if newest else enumerate(chunks, first)


def _is_wanted(asked: Scan, chunk: Chunk) -> bool:
    """Look at a chunk's own time: what is asked of SQLite is that of its row."""
    return (asked.since_ms is None or chunk.ts_ms >= asked.since_ms) and (
        asked.until_ms is None or chunk.ts_ms <= asked.until_ms
    )

"""Reading the output of all processes by the order in which it was stored: that of the chunks' row ids."""

import sqlite3

from app.model.output import Chunk
from app.model.process import Order
from app.model.scan import Scan, Scanned
from app.storage.sqlite import queries
from app.storage.sqlite.read import to_chunk

_END = 2**63 - 1


def scan(db: sqlite3.Connection, asked: Scan) -> Scanned:
    """Implement `Storage.scan`."""
    newest = asked.order is Order.NEWEST
    begin = _END if newest else 0
    position = begin if asked.position is None else asked.position
    parameters = {
        "position": position,
        "count": asked.max_chunks,
        "handle": asked.handle,
        "stream": asked.stream,
        "since": asked.since_ms,
        "until": asked.until_ms,
    }
    ids = db.execute(queries.SCAN_END[asked.order], parameters).fetchall()
    found: list[tuple[int, Chunk]] = []
    size = 0
    for row in db.execute(queries.SCAN[asked.order], parameters):
        chunk_id, handle, *columns = row
        chunk = to_chunk(handle, tuple(columns))
        found.append((chunk_id, chunk))
        size += len(chunk.data)
        if size >= asked.max_bytes:
            return Scanned(chunks=found, position=chunk_id)
    return Scanned(chunks=found, position=ids[-1][0] if len(ids) == asked.max_chunks else None)

"""Reading the output of all processes by the order in which it was stored: that of the chunks' row ids."""

import sqlite3

from app.model.output import Chunk
from app.model.process import Order
from app.model.scan import Scan, Scanned
from app.storage.sqlite import queries
from app.storage.sqlite.listing import MAX_INTEGER
from app.storage.sqlite.read import to_chunk

_BEGIN = {Order.NEWEST: MAX_INTEGER, Order.OLDEST: 0}


def scan(db: sqlite3.Connection, asked: Scan) -> Scanned:
    """Implement `Storage.scan`."""
    begin = _BEGIN[asked.order]
    position = begin if asked.position is None else asked.position
    first = 0 if asked.since_ms is None else db.execute(queries.FIRST_SINCE, {"since": asked.since_ms}).fetchone()[0]
    if asked.order is Order.OLDEST:
        position = max(position, first - 1)
    wanted = {"stream": asked.stream, "since": asked.since_ms, "until": asked.until_ms}
    where = {"handle": asked.handle, "position": position, "begin": begin, "first": first, "count": asked.max_chunks}
    ids = queries.SCAN_ALL if asked.handle is None else queries.SCAN_PROCESS
    found: list[tuple[int, Chunk]] = []
    size = looked_at = 0
    for position, *_ in db.execute(ids[asked.order], where):
        looked_at += 1
        # One by one: a join would read the data of all of them before it gave the first.
        row = db.execute(queries.SCANNED, {**wanted, "id": position}).fetchone()
        if row is None:
            continue
        handle, *columns = row
        found.append((position, to_chunk(handle, tuple(columns))))
        size += len(found[-1][1].data)
        if size >= asked.max_bytes:
            return Scanned(chunks=found, position=position)
    return Scanned(chunks=found, position=position if looked_at == asked.max_chunks else None)

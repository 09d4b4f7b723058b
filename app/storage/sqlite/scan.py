"""Reading the output of all processes by the order in which it was stored: that of the chunks' row ids."""

import sqlite3

from app.model.output import Chunk, Stream
from app.model.process import Order
from app.model.scan import Scan, Scanned
from app.storage.sqlite import queries

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
        chunk_id, handle, run, first_seq, line_count, stream, ts, stdout_end, stderr_end, data = row
        chunk = Chunk(
            handle=handle,
            run=run,
            first_seq=first_seq,
            line_count=line_count,
            stream=Stream(stream),
            ts_ms=ts,
            stdout_end=stdout_end,
            stderr_end=stderr_end,
            data=data,
        )
        found.append((chunk_id, chunk))
        size += len(data)
        if size >= asked.max_bytes:
            return Scanned(chunks=found, position=chunk_id)
    return Scanned(chunks=found, position=ids[-1][0] if len(ids) == asked.max_chunks else None)

"""The neighbours of a chunk that begins or ends within a line."""

import sqlite3
from collections.abc import Iterator

from outlast.model.output import Chunk
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.codec import decompress
from outlast.storage.whole_lines import with_whole_lines


def whole_lines(db: sqlite3.Connection, chunk: Chunk, *, seen_seq: int = 0) -> Chunk | None:
    """Return a chunk with its lines whole, or None if no line is left. See `with_whole_lines`."""
    return with_whole_lines(
        chunk,
        is_continued=lambda: _is_continued(db, chunk),
        earlier_parts=lambda: _earlier_parts(db, chunk),
        seen_seq=seen_seq,
    )


def _is_continued(db: sqlite3.Connection, chunk: Chunk) -> bool:
    row = db.execute(queries.CONTINUES_NEXT, (chunk.handle, chunk.stream, chunk.first_seq)).fetchone()
    return row is not None and row[0] > 0


def _earlier_parts(db: sqlite3.Connection, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    where = {"handle": chunk.handle, "stream": chunk.stream, "from": chunk.continues, "before": chunk.first_seq}
    for seq, data, codec, unfinished_bytes in db.execute(queries.PARTS, where):
        yield seq, decompress(data, codec)[-unfinished_bytes:]

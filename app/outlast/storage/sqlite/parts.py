"""The neighbours of a chunk that begins or ends within a line: in its row, if that is packed, or in other rows."""

import sqlite3
from collections.abc import Iterator, Sequence

from outlast.model.output import Chunk
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.codec import decompress
from outlast.storage.whole_lines import with_whole_lines


def whole_lines(
    db: sqlite3.Connection, chunk: Chunk, *, packed: Sequence[Chunk] | None = None, seen_seq: int = 0
) -> Chunk | None:
    """Return a chunk with its lines whole, or None if no line is left. See `with_whole_lines`.

    Args:
        db: a reader's connection.
        chunk: the chunk.
        packed: all chunks of the chunk's row, if that is packed.
        seen_seq: see `ChunkQuery`.
    """
    if packed is not None:
        return with_whole_lines(
            chunk,
            is_continued=lambda: True,
            earlier_parts=lambda: _earlier_parts_in_row(packed, chunk),
            seen_seq=seen_seq,
        )
    return with_whole_lines(
        chunk,
        is_continued=lambda: _is_continued(db, chunk),
        earlier_parts=lambda: _earlier_parts(db, chunk),
        seen_seq=seen_seq,
    )


def _earlier_parts_in_row(packed: Sequence[Chunk], chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    for part in packed:
        if part.stream is chunk.stream and chunk.continues <= part.last_seq < chunk.first_seq:
            yield part.last_seq, part.data[part.data.rfind(b"\n") + 1 :]


def _is_continued(db: sqlite3.Connection, chunk: Chunk) -> bool:
    row = db.execute(queries.CONTINUES_NEXT, (chunk.handle, chunk.stream, chunk.first_seq)).fetchone()
    return row is not None and row[0] > 0


def _earlier_parts(db: sqlite3.Connection, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    where = {"handle": chunk.handle, "stream": chunk.stream, "from": chunk.continues, "before": chunk.first_seq}
    for seq, data, codec, unfinished_bytes in db.execute(queries.PARTS, where):
        yield seq, decompress(data, codec)[-unfinished_bytes:]

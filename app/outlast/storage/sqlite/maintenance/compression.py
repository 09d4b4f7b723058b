"""Compression of old rows: found on a reader's thread, compressed on a worker thread, replaced on the writer's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.failpoints import failpoint
from outlast.storage.sqlite import codec, queries, retention_queries
from outlast.storage.sqlite.rows import LARGE_BYTES, chunk_times

STEP_BYTES = 1 << 20
"""Bytes read after which a step takes no further row."""

STEP_ROWS = 512
"""Maximum number of rows examined in a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionRules:
    """The rows to be compressed.

    Attributes:
        after_ms: minimum age of a row's output.
        min_bytes: minimum size of a row. A smaller one would gain little.
        max_ratio: maximum size of the compressed data, as a part of the row's bytes. A row that gains less than that
            stays as it is.
    """

    after_ms: int
    min_bytes: int = 1024
    max_ratio: float = codec.MAX_RATIO

    def is_old(self, ts_ms: int, now_ms: int) -> bool:
        """Tell whether output of that time may be compressed. A time in the future is that of a wrong clock."""
        return ts_ms > now_ms or ts_ms + self.after_ms <= now_ms


@dataclass(frozen=True, slots=True)
class OldRow:
    """A row to be compressed. Handle and first line tell whether the row of this id still is the same."""

    id: int
    handle: int
    first_seq: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionPlan:
    """The rows to be compressed in a step, after which all rows up to `upto_id` have been examined."""

    upto_id: int
    rows: Sequence[OldRow]


def plan_compression(db: sqlite3.Connection, rules: CompressionRules, now_ms: int) -> CompressionPlan | None:
    """Find the next old rows. Return None if there are none now.

    A row that may yet be merged is passed over: the compaction step that merges it, or decides that it stays alone,
    compresses it.
    """
    (examined_id,) = db.execute(queries.COMPRESSED_UPTO).fetchone()
    upto_id, size, found = examined_id, 0, list[OldRow]()
    bounds = {"mark": examined_id, "limit": STEP_ROWS, "large": LARGE_BYTES}
    for row_id, ts_ms, stored_bytes, may_be_merged in db.execute(queries.ROWS_TO_COMPRESS, bounds):
        if not rules.is_old(ts_ms, now_ms):
            break
        if stored_bytes >= rules.min_bytes and not may_be_merged:
            handle, first_seq, data, parts = db.execute(queries.ROW_TO_COMPRESS, (row_id,)).fetchone()
            if parts and not all(rules.is_old(chunk_ms, now_ms) for _, chunk_ms in chunk_times(ts_ms, parts)):
                break
            size += len(data)
            found.append(OldRow(row_id, handle, first_seq, data))
        upto_id = row_id
        if size >= STEP_BYTES:
            break
    return CompressionPlan(upto_id=upto_id, rows=found) if upto_id > examined_id else None


def compress_data(data: bytes, rules: CompressionRules) -> bytes | None:
    """Return a row's data compressed, or None if the row stays as it is."""
    if len(data) < rules.min_bytes:
        return None
    compressed = codec.compress(data)
    return compressed if len(compressed) <= len(data) * rules.max_ratio else None


def compress_rows(rows: Sequence[OldRow], rules: CompressionRules) -> list[tuple[OldRow, bytes]]:
    """Return the rows that gain enough, each with its compressed data."""
    tried = [(row, compress_data(row.data, rules)) for row in rows]
    return [(row, compressed) for row, compressed in tried if compressed is not None]


def apply_compression(db: sqlite3.Connection, compressed: Sequence[tuple[OldRow, bytes]], upto_id: int) -> None:
    """Replace the data of rows by their compressed data, in the caller's transaction."""
    for row, data in compressed:
        values = (data, codec.ZLIB, len(row.data), row.id, row.handle, row.first_seq)
        if db.execute(queries.COMPRESS_ROW, values).rowcount:
            db.execute(retention_queries.CHANGE_HOLDING, (len(data) - len(row.data), row.handle))
        failpoint("inside-compression")
    db.execute(queries.MOVE_COMPRESSED_UPTO, (upto_id,))

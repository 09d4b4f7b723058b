"""Sealing: old rows are found on a reader's thread, compressed on another, and changed on the writer's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from outlast.failpoints import failpoint
from outlast.storage.sqlite import codec, queries
from outlast.storage.sqlite.rows import LARGE_BYTES, times

STEP_BYTES = 1 << 20
"""A step ends with the row with which it has read so much."""

STEP_ROWS = 512
"""So many are looked at in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is sealed.

    Attributes:
        after_ms: what was read so long ago.
        least_bytes: of a row. Smaller ones stay as they are: they would gain little.
        worth: a row that compressed takes more than this part of its bytes stays as it is.
    """

    after_ms: int
    least_bytes: int = 1024
    worth: float = 0.8

    def is_old(self, ts_ms: int, now_ms: int) -> bool:
        """Tell whether what was read then may be sealed. A time to come is that of a clock that was wrong."""
        return ts_ms > now_ms or ts_ms + self.after_ms <= now_ms


@dataclass(frozen=True, slots=True)
class Old:
    """A row to be sealed: its id, its first line (with its handle it tells that the row is the same), and its data."""

    id: int
    handle: int
    first_seq: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next: seal these, and then all up to `upto_id` has been looked at."""

    upto_id: int
    rows: Sequence[Old]


def look(db: sqlite3.Connection, rules: Rules, now_ms: int) -> Step | None:
    """Find the next rows that are old. None: there are none now.

    Those that are perhaps merged with others are passed over: whoever merges them, or finds that they stay, seals them.
    """
    (mark,) = db.execute(queries.COMPRESSED_UPTO).fetchone()
    upto_id, size, found = mark, 0, list[Old]()
    bounds = {"mark": mark, "limit": STEP_ROWS, "large": LARGE_BYTES}
    for row_id, ts_ms, stored_bytes, waits_for_merging in db.execute(queries.ROWS_TO_COMPRESS, bounds):
        if not rules.is_old(ts_ms, now_ms):
            break
        if stored_bytes >= rules.least_bytes and not waits_for_merging:
            handle, first_seq, data, parts, sealed = db.execute(queries.ROW_TO_COMPRESS, (row_id,)).fetchone()
            if parts and not all(rules.is_old(part_ms, now_ms) for _, part_ms in times(ts_ms, parts)):
                break
            size += len(data)
            if sealed is None:
                found.append(Old(row_id, handle, first_seq, data))
        upto_id = row_id
        if size >= STEP_BYTES:
            break
    return Step(upto_id=upto_id, rows=found) if upto_id > mark else None


def compress(data: bytes, rules: Rules) -> bytes | None:
    """Return what becomes of a row's data. None: it stays as it is."""
    if len(data) < rules.least_bytes:
        return None
    sealed = codec.seal(data)
    return sealed if len(sealed) <= len(data) * rules.worth else None


def compress_all(rows: Sequence[Old], rules: Rules) -> list[tuple[Old, bytes]]:
    """Compress what is worth it."""
    tried = [(row, compress(row.data, rules)) for row in rows]
    return [(row, sealed) for row, sealed in tried if sealed is not None]


def apply(db: sqlite3.Connection, sealed: Sequence[tuple[Old, bytes]], upto_id: int) -> None:
    """Put sealed data in the place of what was written, in the caller's transaction."""
    for row, data in sealed:
        db.execute(queries.COMPRESS_ROW, (data, codec.ZSTD, len(row.data), row.id, row.handle, row.first_seq))
        failpoint("inside-seal")
    db.execute(queries.MOVE_COMPRESSED_UPTO, (upto_id,))

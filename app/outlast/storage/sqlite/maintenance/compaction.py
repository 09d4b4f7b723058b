"""Merging: what to do about a process's small chunks is found out on a reader's thread, and done on the writer's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from outlast.failpoints import failpoint
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.codec import ZSTD
from outlast.storage.sqlite.rows import (
    LARGE_BYTES,
    LEAST_LOCAL_BYTES,
    MAX_MERGED_LINES,
    PAGE_BYTES,
    ROW_BYTES,
    TARGET_BYTES,
    TIME_BYTES,
    Group,
    join_times,
    times,
)

_SMALL_BYTES = 2000  # many such rows fill a page, whatever their exact size

_FULL_BYTES = TARGET_BYTES - TARGET_BYTES // 16  # a row that was merged and may go on growing is smaller

LOOK_ROWS = 512
"""So many rows are looked at, and become one at most, in one step: on the writer's thread about 5 us each."""

_LOOK_BYTES = 2 * TARGET_BYTES


@dataclass(frozen=True, slots=True)
class Row:
    """A row that may be merged with the next."""

    id: int
    run: int
    first_seq: int
    line_count: int
    stream: int
    ts: int
    data: bytes
    parts: str | None

    @property
    def end_seq(self) -> int:
        """The number behind its last line's."""
        return self.first_seq + self.line_count

    @property
    def size(self) -> int:
        """How much of `TARGET_BYTES` it takes."""
        return len(self.data) + (TIME_BYTES if self.parts is None else len(self.parts))

    def times(self) -> list[tuple[int, int]]:
        """Lines and time of each of its chunks."""
        return [(self.line_count, self.ts)] if self.parts is None else list(times(self.ts, self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What rows become: a row in the place of the last, with its id. One alone stays as it is, unless it is sealed.

    Attributes:
        ids: of all the rows, the last one's last.
        latest_ts: when the last of its chunks was read.
    """

    ids: Sequence[int]
    first_seq: int
    line_count: int
    ts: int
    latest_ts: int
    data: bytes
    parts: str | None
    sealed: bytes | None = None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """Put rows together."""
        chunks = [time for row in rows for time in row.times()]
        ts, parts = join_times(chunks) if len(rows) > 1 else (rows[0].ts, rows[0].parts)
        return cls(
            ids=[row.id for row in rows],
            first_seq=rows[0].first_seq,
            line_count=sum(row.line_count for row in rows),
            ts=ts,
            latest_ts=max(ts for _, ts in chunks),
            data=b"".join(row.data for row in rows),
            parts=parts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next about a process.

    Attributes:
        before_seq: nothing has changed since the look if the process's mark still is there.
        after_seq: where its mark goes. None: all is merged, and nothing more will come.
        merged: what becomes of rows.
    """

    handle: int
    before_seq: int
    after_seq: int | None
    merged: Sequence[Merged] = ()

    @property
    def ids(self) -> tuple[int, int]:
        """The ids of the first row and the last."""
        return self.merged[0].ids[0], self.merged[-1].ids[-1]

    @property
    def rows(self) -> int:
        """How many rows there are now."""
        return sum(len(merged.ids) for merged in self.merged)

    @property
    def size(self) -> int:
        """Bytes that will be written, about."""
        return sum(len(merged.data) for merged in self.merged)


def look(db: sqlite3.Connection, handle: int, *, least_rows: int, pack: bool) -> Step | None:
    """Find the next thing to do about a process; None: nothing for now.

    Args:
        db: a reader's connection.
        handle: of the process.
        least_rows: while more may come, rows are merged that are so many at least.
        pack: make rows that fill pages, and not the largest: they won't be sealed.
    """
    state = db.execute(queries.UNMERGED, {"handle": handle}).fetchone()
    if state is None:
        return None
    mark, is_complete = state
    after_seq, group, alone = mark, Group[Row](), list[Merged]()
    looked_at = looked_bytes = 0
    keys = db.execute(queries.ROWS_BEHIND, {"handle": handle, "after": mark, "limit": LOOK_ROWS})
    for row_id, first_seq, line_count in keys:
        looked_at += 1
        row = _row(db, row_id, _FULL_BYTES if looked_at == 1 else LARGE_BYTES)
        if row is not None and group.parts and group.takes(row, row.size):
            group.add(row, row.size)
            continue
        if len(group.parts) > 1:
            after_seq = group.parts[-1].end_seq - 1
            return Step(
                handle=handle, before_seq=mark, after_seq=after_seq, merged=[*alone, *_joined(group.parts, pack=pack)]
            )
        if group.parts and not pack:
            alone.append(Merged.of(group.parts))
        group = Group[Row]()
        if row is None:
            after_seq = first_seq + line_count - 1
            continue
        group.add(row, row.size)
        after_seq = first_seq - 1
        looked_bytes += row.size
        if looked_bytes > _LOOK_BYTES:
            return Step(handle=handle, before_seq=mark, after_seq=after_seq, merged=alone)
    has_all = looked_at < LOOK_ROWS
    if has_all and is_complete:
        merged = [*alone, *_joined(group.parts, pack=pack)]
        return Step(handle=handle, before_seq=mark, after_seq=None, merged=merged)
    if len(group.parts) > 1 and (not has_all or len(group.parts) >= least_rows):
        # What more comes may still join it: the mark stays before it.
        merged = [*alone, Merged.of(group.parts)]
        return Step(handle=handle, before_seq=mark, after_seq=after_seq, merged=merged)
    return Step(handle=handle, before_seq=mark, after_seq=after_seq, merged=alone) if after_seq > mark else None


def _joined(rows: Sequence[Row], *, pack: bool) -> list[Merged]:
    groups = _packed(rows) if pack else [rows]
    return [Merged.of(group) for group in groups if len(group) > pack]


def _packed(rows: Sequence[Row]) -> list[list[Row]]:
    """Cut rows that could all become one into groups that will fill pages: one of many pages, then small ones.

    A row of 6 KiB would share its page with one other, and leave a quarter of it empty.
    """
    pages = sum(row.size for row in rows) // PAGE_BYTES  # the last may be nearly full
    limit = pages * PAGE_BYTES + 2 * LEAST_LOCAL_BYTES if pages else _SMALL_BYTES
    groups: list[list[Row]] = []
    size = limit
    for row in rows:
        if size + row.size > limit:
            if groups:
                limit = _SMALL_BYTES
            groups.append([])
            size = ROW_BYTES
        groups[-1].append(row)
        size += row.size
    return groups


def _row(db: sqlite3.Connection, row_id: int, large: int) -> Row | None:
    """Read a row that may be merged. None: it may not."""
    bounds = {"id": row_id, "large": large, "most": MAX_MERGED_LINES}
    found = db.execute(queries.SMALL_ROW, bounds).fetchone()
    return None if found is None else Row(*found)


def apply(db: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Do it, in the caller's transaction. A process that has been purged since the look is left alone."""
    for step in steps:
        if step.after_seq is None:
            moved = db.execute(queries.FORGET_UNMERGED, (step.handle, step.before_seq))
        else:
            moved = db.execute(queries.MOVE_UNMERGED, (step.after_seq, step.handle, step.before_seq))
        if moved.rowcount:
            for merged in step.merged:
                if len(merged.ids) > 1 or merged.sealed is not None:
                    _replace(db, merged)


def _replace(db: sqlite3.Connection, merged: Merged) -> None:
    *others, last = merged.ids
    db.executemany(queries.DELETE_ROW, [(row_id,) for row_id in others])
    failpoint("inside-merge")
    codec, raw_bytes = (None, None) if merged.sealed is None else (ZSTD, len(merged.data))
    stored = (merged.sealed or merged.data, merged.parts, codec, raw_bytes)
    # The last keeps its id, so that of all ids the newest is never deleted and given again.
    db.execute(queries.REPLACE_ROW, (merged.first_seq, merged.line_count, merged.ts, *stored, last))

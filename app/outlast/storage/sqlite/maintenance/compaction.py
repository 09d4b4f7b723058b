"""Compaction: small rows of a process are found on a reader's thread and merged into larger ones on the writer's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from outlast.failpoints import failpoint
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.codec import ZLIB
from outlast.storage.sqlite.rows import (
    LARGE_BYTES,
    LEAST_LOCAL_BYTES,
    MAX_MERGED_LINES,
    PAGE_BYTES,
    ROW_BYTES,
    TARGET_BYTES,
    TIME_BYTES,
    Group,
    chunk_times,
    encode_chunk_times,
)

STEP_ROWS = 512
"""Maximum number of rows examined, and merged into one, in a step: about 5 us each on the writer's thread."""

_STEP_BYTES = 2 * TARGET_BYTES

_SMALL_BYTES = 2000  # many rows of this size fill a page, whatever their exact size

_FULL_BYTES = TARGET_BYTES - TARGET_BYTES // 16  # a merged row that may still grow is smaller


@dataclass(frozen=True, slots=True)
class Row:
    """A stored row that may be merged with the next."""

    id: int
    run: int
    first_seq: int
    line_count: int
    stream: int
    ts: int
    continues: int
    data: bytes
    parts: str | None

    @property
    def end_seq(self) -> int:
        """Return the sequence number after the last line."""
        return self.first_seq + self.line_count

    @property
    def size(self) -> int:
        """Return the part of `TARGET_BYTES` that the row takes."""
        return len(self.data) + (TIME_BYTES if self.parts is None else len(self.parts))

    def chunk_times(self) -> list[tuple[int, int]]:
        """Return the number of lines and the time of each chunk."""
        return [(self.line_count, self.ts)] if self.parts is None else list(chunk_times(self.ts, self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRow:
    """The row that several rows become, with the id of the last. A single row stays as it is, unless it is compressed.

    Attributes:
        ids: the ids of the rows, in order.
        ts: the earliest time of a chunk.
        latest_ts: the latest time of a chunk.
        continues: that of the first row; only the first can begin within a line.
        data: the output, not compressed.
        compressed: `data` as they are stored, if they are stored compressed.
    """

    ids: Sequence[int]
    first_seq: int
    line_count: int
    ts: int
    latest_ts: int
    continues: int
    data: bytes
    parts: str | None
    compressed: bytes | None = None

    @classmethod
    def from_rows(cls, rows: Sequence[Row]) -> Self:
        """Merge rows that follow one another."""
        chunks = [time for row in rows for time in row.chunk_times()]
        ts, parts = encode_chunk_times(chunks) if len(rows) > 1 else (rows[0].ts, rows[0].parts)
        return cls(
            ids=[row.id for row in rows],
            first_seq=rows[0].first_seq,
            line_count=sum(row.line_count for row in rows),
            ts=ts,
            latest_ts=max(ts for _, ts in chunks),
            continues=rows[0].continues,
            data=b"".join(row.data for row in rows),
            parts=parts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPlan:
    """The next step of a process's compaction.

    Attributes:
        before_seq: the process's mark (all lines up to it are merged) when the plan was made. The plan holds while the
            mark is still there.
        after_seq: the mark after the step. None: everything is merged, and no more output will come.
        merged: the rows that result.
    """

    handle: int
    before_seq: int
    after_seq: int | None
    merged: Sequence[MergedRow] = ()

    @property
    def id_range(self) -> tuple[int, int]:
        """Return the ids of the first and the last row that the step changes."""
        return self.merged[0].ids[0], self.merged[-1].ids[-1]

    @property
    def row_count(self) -> int:
        """Return the number of rows before the step."""
        return sum(len(row.ids) for row in self.merged)

    @property
    def size(self) -> int:
        """Return roughly the number of bytes that the step writes."""
        return sum(len(row.data) for row in self.merged)


def plan_compaction(db: sqlite3.Connection, handle: int, *, min_rows: int, pack: bool) -> CompactionPlan | None:
    """Plan the next step of a process's compaction. Return None if there is none now.

    Args:
        db: a reader's connection.
        handle: of the process.
        min_rows: while more output may come, fewer rows than this are not merged.
        pack: cut merged rows so that they fill pages, rather than make them as large as possible. For rows that will
            not be compressed.
    """
    state = db.execute(queries.UNMERGED, {"handle": handle}).fetchone()
    if state is None:
        return None
    mark, is_complete = state
    plan = partial(CompactionPlan, handle=handle, before_seq=mark)
    after_seq, group, single = mark, Group[Row](), list[MergedRow]()
    examined = examined_bytes = 0
    keys = db.execute(queries.ROWS_BEHIND, {"handle": handle, "after": mark, "limit": STEP_ROWS})
    for row_id, first_seq, line_count in keys:
        examined += 1
        row = _read_small_row(db, row_id, _FULL_BYTES if examined == 1 else LARGE_BYTES)
        if row is not None and group.members and group.accepts(row, row.size):
            group.append(row, row.size)
            continue
        if len(group.members) > 1:
            after_seq = group.members[-1].end_seq - 1
            return plan(after_seq=after_seq, merged=[*single, *_merge_group(group.members, pack=pack)])
        if group.members and not pack:
            single.append(MergedRow.from_rows(group.members))
        group = Group[Row]()
        if row is None:
            after_seq = first_seq + line_count - 1
            continue
        group.append(row, row.size)
        after_seq = first_seq - 1
        examined_bytes += row.size
        if examined_bytes > _STEP_BYTES:
            return plan(after_seq=after_seq, merged=single)
    has_all = examined < STEP_ROWS
    if has_all and is_complete:
        return plan(after_seq=None, merged=[*single, *_merge_group(group.members, pack=pack)])
    if len(group.members) > 1 and (not has_all or len(group.members) >= min_rows):
        # Later output may still be merged with these rows: the mark stays before them.
        return plan(after_seq=after_seq, merged=[*single, MergedRow.from_rows(group.members)])
    return plan(after_seq=after_seq, merged=single) if after_seq > mark else None


def _merge_group(rows: Sequence[Row], *, pack: bool) -> list[MergedRow]:
    groups = _cut_for_pages(rows) if pack else [rows]
    return [MergedRow.from_rows(group) for group in groups if len(group) > pack]


def _cut_for_pages(rows: Sequence[Row]) -> list[list[Row]]:
    """Cut rows that could become one into groups that fill pages: one of many pages, then small ones.

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


def _read_small_row(db: sqlite3.Connection, row_id: int, max_bytes: int) -> Row | None:
    """Read a row, or return None if it must not be merged."""
    bounds = {"id": row_id, "large": max_bytes, "most": MAX_MERGED_LINES}
    found = db.execute(queries.SMALL_ROW, bounds).fetchone()
    return None if found is None else Row(*found)


def apply_compaction(db: sqlite3.Connection, plans: Sequence[CompactionPlan]) -> None:
    """Merge rows as planned, in the caller's transaction. A process that was purged since then is left alone."""
    for plan in plans:
        if plan.after_seq is None:
            moved = db.execute(queries.FORGET_UNMERGED, (plan.handle, plan.before_seq))
        else:
            moved = db.execute(queries.MOVE_UNMERGED, (plan.after_seq, plan.handle, plan.before_seq))
        if moved.rowcount:
            for merged in plan.merged:
                if len(merged.ids) > 1 or merged.compressed is not None:
                    _replace_rows(db, merged)


def _replace_rows(db: sqlite3.Connection, merged: MergedRow) -> None:
    *others, last = merged.ids
    db.executemany(queries.DELETE_ROW, [(row_id,) for row_id in others])
    failpoint("inside-compaction")
    codec, raw_bytes = (None, None) if merged.compressed is None else (ZLIB, len(merged.data))
    stored = (merged.compressed or merged.data, merged.parts, codec, raw_bytes)
    # The last row keeps its id, so that the highest id of all is never deleted and given again.
    db.execute(queries.REPLACE_ROW, (merged.first_seq, merged.line_count, merged.ts, merged.continues, *stored, last))

"""Compaction: small rows of a process are found on a reader's thread and merged into larger ones on the writer's."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from outlast.failpoints import failpoint
from outlast.model.output import Stream
from outlast.storage.sqlite import queries, retention_queries
from outlast.storage.sqlite.codec import ZLIB
from outlast.storage.sqlite.packed import BOTH_STREAMS, Packer
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
    stored_bytes,
)

STEP_ROWS = 512
"""Maximum number of rows examined, and merged into one, in a step: about 5 us each on the writer's thread."""

_STEP_BYTES = 2 * TARGET_BYTES

_SMALL_BYTES = 2000  # many rows of this size fill a page, whatever their exact size

_PACKED_FACTOR = 8
"""While more output may come, rows are packed when there are this many times the rows that are merged, because a packed
row cannot grow."""

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
        stream: the new stream, of a packed row. None: that of the rows.
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
    stream: int | None = None
    compressed: bytes | None = None

    @property
    def end_seq(self) -> int:
        """Return the sequence number after the last line."""
        return self.first_seq + self.line_count

    @classmethod
    def from_rows(cls, rows: Sequence[Row]) -> Self:
        """Merge rows of one stream that follow one another; only the last may end within a line."""
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

    @classmethod
    def packed(cls, rows: Sequence[Row]) -> Self:
        """Merge rows that follow one another, and begin and end with a whole line in both streams."""
        packer = Packer()
        latest_ts = 0
        for row in rows:
            times = row.chunk_times()
            packer.add(Stream(row.stream), times, row.data)
            latest_ts = max(latest_ts, *(ts for _, ts in times))
        ts, parts, data = packer.columns()
        return cls(
            ids=[row.id for row in rows],
            first_seq=rows[0].first_seq,
            line_count=sum(row.line_count for row in rows),
            ts=ts,
            latest_ts=latest_ts,
            continues=0,
            data=data,
            parts=parts,
            stream=BOTH_STREAMS,
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


def plan_compaction(
    db: sqlite3.Connection, handle: int, *, min_rows: int, for_pages: bool, step_rows: int = STEP_ROWS
) -> CompactionPlan | None:
    """Plan the next step of a process's compaction. Return None if there is none now.

    Args:
        db: a reader's connection.
        handle: of the process.
        min_rows: while more output may come, fewer rows than this are not merged.
        for_pages: cut merged rows so that they fill pages, rather than make them as large as possible. For rows that
            will not be compressed.
        step_rows: maximum number of rows examined.
    """
    state = db.execute(queries.UNMERGED, {"handle": handle}).fetchone()
    if state is None:
        return None
    mark, is_complete = state
    merge = partial(_merge_group, for_pages=for_pages)
    keys = db.execute(queries.ROWS_BEHIND, {"handle": handle, "after": mark, "limit": step_rows})
    found = _examine(db, keys, mark, step_rows, merge)
    plan = partial(CompactionPlan, handle=handle, before_seq=mark)
    if found.is_last and is_complete:
        return plan(after_seq=None, merged=[*found.merged, *merge(found.rows)])
    is_due = not found.is_last or len(found.rows) >= min_rows
    if found.rows and is_due and _is_of_one_stream(found.rows):
        # Later output may still be merged with these rows: the mark stays before them.
        found.merged += [MergedRow.from_rows(found.rows)] if len(found.rows) > 1 else []
    elif found.rows and (not found.is_last or len(found.rows) >= _PACKED_FACTOR * min_rows):
        results = merge(found.rows)
        merged_count = max((n for n, row in enumerate(results, 1) if len(row.ids) > 1), default=0)
        if merged_count:  # later output may still be packed with those behind
            found.merged += results[:merged_count]
            found.after_seq = results[merged_count - 1].end_seq - 1
        elif not found.is_last and step_rows == STEP_ROWS:  # a line of many parts
            return plan_compaction(db, handle, min_rows=min_rows, for_pages=for_pages, step_rows=MAX_MERGED_LINES)
        elif not found.is_last:
            found.merged += results
            found.after_seq = found.rows[-1].end_seq - 1
    has_work = found.after_seq > mark or any(len(row.ids) > 1 for row in found.merged)
    return plan(after_seq=found.after_seq, merged=found.merged) if has_work else None


@dataclass(slots=True)
class _Found:
    """The rows behind a mark, and what some of them become.

    Attributes:
        after_seq: the mark behind which `rows` begin.
        merged: what the rows before them become.
        rows: rows that follow one another, and may be followed by more.
        is_last: whether there are no more rows yet.
    """

    after_seq: int
    merged: list[MergedRow]
    rows: Sequence[Row] = ()
    is_last: bool = False


def _examine(
    db: sqlite3.Connection,
    keys: Iterable[tuple[int, int, int]],
    mark: int,
    step_rows: int,
    merge: Callable[[Sequence[Row]], list[MergedRow]],
) -> _Found:
    """Read rows until some can be merged that the next row cannot join, or to the end of the step."""
    after_seq, group, merged = mark, Group[Row](), list[MergedRow]()
    examined = examined_bytes = 0
    for row_id, first_seq, line_count in keys:
        examined += 1
        row = _read_small_row(db, row_id, _FULL_BYTES if examined == 1 else LARGE_BYTES)
        if row is not None and group.members and group.fits(row, row.size):
            group.append(row, row.size)
            continue
        results = merge(group.members)
        merged += results
        if any(len(result.ids) > 1 for result in results):
            return _Found(group.members[-1].end_seq - 1, merged)
        group = Group[Row]()
        if row is None:
            after_seq = first_seq + line_count - 1
            continue
        group.append(row, row.size)
        after_seq = first_seq - 1
        examined_bytes += row.size
        if examined_bytes > _STEP_BYTES:
            return _Found(after_seq, merged)
    return _Found(after_seq, merged, group.members, is_last=examined < step_rows)


def _merge_group(rows: Sequence[Row], *, for_pages: bool) -> list[MergedRow]:
    """Return what consecutive rows become. With `for_pages`, without the rows that stay as they are."""
    merged: list[MergedRow] = []
    for group in _cut_into_rows(rows):
        if _is_of_one_stream(group):
            cut = _cut_for_pages(group) if for_pages else [group]
            merged += [MergedRow.from_rows(part) for part in cut if len(part) > for_pages]
        else:
            merged.append(MergedRow.packed(group))
    return merged


def _is_of_one_stream(rows: Sequence[Row]) -> bool:
    """Tell whether rows need not be packed: they are of one stream, and only the last ends within a line."""
    return all(row.stream == rows[0].stream for row in rows) and all(row.data.endswith(b"\n") for row in rows[:-1])


def _cut_into_rows(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield consecutive rows in groups, each of which can become one row."""
    if not rows:
        return
    if _is_of_one_stream(rows):
        yield rows
        return
    if len(rows[0].data) > LARGE_BYTES:  # a row that was merged before is not written again for a few small ones
        yield rows[:1]
        rows = rows[1:]
    yield from _cut_at_whole_lines(rows)


def _cut_at_whole_lines(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield the longest groups that begin and end with whole lines in both streams, and the rows around them alone."""
    begin = 0
    last: dict[int, int] = {}  # index of each stream's last row
    for index, row in enumerate(rows):
        before = last.get(row.stream, begin - 1)
        if before >= begin and not row.continues and not rows[before].data.endswith(b"\n"):  # that line was given up
            yield from _between_whole_lines(rows[begin:before])
            yield rows[before : before + 1]
            begin = before + 1
        last[row.stream] = index
    yield from _between_whole_lines(rows[begin:])


def _between_whole_lines(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    within_line = {row.stream: row.continues > 0 for row in reversed(rows)}  # at the beginning
    bounds: list[int] = []
    for index, row in enumerate(rows):
        if not any(within_line.values()):
            bounds.append(index)
        within_line[row.stream] = not row.data.endswith(b"\n")
    if not any(within_line.values()):
        bounds.append(len(rows))
    begin, end = (bounds[0], bounds[-1]) if bounds else (0, 0)
    yield from ([row] for row in rows[:begin])
    if begin < end:
        yield rows[begin:end]
    yield from ([row] for row in rows[end:])


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


def _stored_bytes(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    return sum(db.execute(retention_queries.SIZE_OF_ROW, (row_id,)).fetchone()[0] for row_id in ids)


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
                    _replace_rows(db, plan.handle, merged)


def _replace_rows(db: sqlite3.Connection, handle: int, merged: MergedRow) -> None:
    *others, last = merged.ids
    bytes_after = stored_bytes(merged.compressed or merged.data, merged.parts)
    db.execute(retention_queries.CHANGE_HOLDING, (bytes_after - _stored_bytes(db, merged.ids), handle))
    db.executemany(queries.DELETE_ROW, [(row_id,) for row_id in others])
    failpoint("inside-compaction")
    codec, raw_bytes = (None, None) if merged.compressed is None else (ZLIB, len(merged.data))
    stored = (merged.compressed or merged.data, merged.parts, codec, raw_bytes)
    # The last row keeps its id, so that the highest id of all is never deleted and given again.
    db.execute(
        queries.REPLACE_ROW,
        (merged.first_seq, merged.line_count, merged.ts, merged.continues, *stored, merged.stream, last),
    )

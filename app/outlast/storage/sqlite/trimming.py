"""Trimming: the mark up to which the output of a process is deleted, where to set it, and the deletion itself.

A commit sets the mark, and from then on nothing below it can be read. The rows are deleted afterwards, between commits,
but for the last of each stream, which loses its data only: it tells how far the stream is stored.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outlast.failpoints import failpoint
from outlast.model.options import Keep
from outlast.model.output import Stream, Trimmed
from outlast.model.retention import END_BYTES, END_LINES, Holding, HoldingQuery, TrimPoint, TrimQuery
from outlast.storage.base import EndedProcess, TrimOutput
from outlast.storage.sqlite import queries, retention_queries
from outlast.storage.sqlite.connection import STEP_ROWS, transact_for_a_moment
from outlast.storage.sqlite.listing import MAX_INTEGER

TRIM_STEP_ROWS = 512
"""Maximum number of rows that one `TrimPoint` covers: a commit looks at each of them for about a microsecond."""


_STREAMS = (0, *Stream)


def trimmed_of(db: sqlite3.Connection, handle: int) -> Trimmed | None:
    """Return what is deleted of a process's output."""
    row = db.execute(retention_queries.TRIMMED, (handle,)).fetchone()
    return None if row is None else trimmed_from_row(row)


def trimmed_from_row(row: tuple[Any, ...]) -> Trimmed | None:
    """Return what a row of the columns `retention_queries.TRIMMED_COLUMNS` says. None: its values are NULL."""
    last_seq, lines, count, until_ms = row
    return None if last_seq is None else Trimmed(last_seq=last_seq, lines=lines, bytes=count, until_ms=until_ms)


# ---- in a commit


def trim_output(db: sqlite3.Connection, change: TrimOutput) -> int:
    """Set the mark of a stored process, in the caller's transaction, at the end of the last whole row.

    Returns:
        How many bytes on the disk are deleted.
    """
    handle = change.handle
    last = _last_row(db, handle, change.upto_seq)
    if last is not None and last.end_seq > change.upto_seq:
        last = _last_row(db, handle, last.first_seq - 1)
    before = trimmed_of(db, handle)
    mark = before.last_seq if before else 0
    if last is None or last.end_seq <= mark:
        return 0
    upto = last.end_seq
    where = {"handle": handle, "after": mark, "upto": upto}
    freed, missing_bytes = db.execute(retention_queries.ROWS_SUM, where).fetchone()
    stdout_end, stderr_end = db.execute(retention_queries.TRIMMED_ENDS, (handle,)).fetchone() or (0, 0)
    count = (
        (before.bytes if before else 0) + last.stdout_end + last.stderr_end - stdout_end - stderr_end - missing_bytes
    )
    values = (handle, upto, last.lines - _crossing_lines(db, handle, upto), count)
    db.execute(retention_queries.SET_TRIMMED, (*values, last.stdout_end, last.stderr_end, last.latest_ts, change.ts_ms))
    db.execute(retention_queries.RAISE_UNMERGED, {"handle": handle, "upto": upto})
    first = _first_row(db, handle, upto)
    db.execute(retention_queries.LOWER_HOLDING, (freed, first and first[1], handle))
    failpoint("inside-trim")
    return int(freed)


@dataclass(frozen=True, slots=True)
class _Row:
    first_seq: int
    line_count: int
    lines: int
    stdout_end: int
    stderr_end: int
    latest_ts: int

    @property
    def end_seq(self) -> int:
        return self.first_seq + self.line_count - 1


def _last_row(db: sqlite3.Connection, handle: int, upto_seq: int) -> _Row | None:
    """Return the row that holds the number `upto_seq`, or else the last one before it."""
    found = [db.execute(retention_queries.ROW_AT, (handle, stream, upto_seq)).fetchone() for stream in _STREAMS]
    return _Row(*max(rows)) if (rows := [row for row in found if row]) else None


def _first_row(db: sqlite3.Connection, handle: int, after_seq: int) -> tuple[int, int, int] | None:
    """Return the number, `latest_ts` and `ts` of the first row behind a number."""
    found = [db.execute(retention_queries.ROW_BEHIND, (handle, stream, after_seq)).fetchone() for stream in _STREAMS]
    return min(rows) if (rows := [row for row in found if row]) else None


def _crossing_lines(db: sqlite3.Connection, handle: int, upto_seq: int) -> int:
    """Return the number of lines with parts on both sides of a number."""
    found = [db.execute(queries.CONTINUES_NEXT, (handle, stream, upto_seq)).fetchone() for stream in Stream]
    return sum(row is not None and 0 < row[0] <= upto_seq for row in found)


# ---- where to cut


def trim_point(db: sqlite3.Connection, query: TrimQuery) -> TrimPoint | None:
    """Implement `Storage.trim_point`."""
    if db.execute(queries.IS_STORED, (query.handle,)).fetchone() is None:
        return None
    trimmed = trimmed_of(db, query.handle)
    mark = trimmed.last_seq if trimmed else 0
    last_seq = max((row[0] for row in _stream_ends(db, query.handle)), default=0)
    end = last_seq if query.takes_all or query.before_ms is not None else last_seq - 1
    if query.spares_end:
        end = min(end, _end_of_spared(db, query.handle, mark) - 1)
    upto, freed = 0, 0
    where = {"handle": query.handle, "after": mark, "limit": TRIM_STEP_ROWS}
    for first_seq, line_count, latest_ts, size in db.execute(retention_queries.ROW_SIZES, where):
        row_end = first_seq + line_count - 1
        is_young = query.before_ms is not None and latest_ts >= query.before_ms
        if row_end > end or is_young or (query.free_bytes is not None and freed >= query.free_bytes):
            break
        upto, freed = row_end, freed + size
    return TrimPoint(upto_seq=upto, bytes=freed) if upto else None


def _stream_ends(db: sqlite3.Connection, handle: int) -> list[tuple[Any, ...]]:
    found = [db.execute(queries.LAST_OF_STREAM, (handle, stream)).fetchone() for stream in _STREAMS]
    return [row for row in found if row]


def _end_of_spared(db: sqlite3.Connection, handle: int, mark: int) -> int:
    """Return the number of the first line of the end that goes last."""
    lines = size = 0
    first, last_run = MAX_INTEGER, None
    rows = db.execute(retention_queries.ROWS_BACKWARDS, {"handle": handle, "mark": mark})
    for first_seq, line_count, run, raw_bytes in rows:
        last_run = run if last_run is None else last_run
        if run != last_run or lines >= END_LINES or size >= END_BYTES:
            break
        first, lines, size = first_seq, lines + line_count, size + raw_bytes
    return first


# ---- who holds what


def held_bytes(db: sqlite3.Connection, handle: int | None) -> int:
    """Implement `Storage.held_bytes`."""
    sql, values = (retention_queries.HELD_BYTES, ()) if handle is None else (retention_queries.HELD_BY, (handle,))
    row = db.execute(sql, values).fetchone()
    return int(row[0]) if row else 0


def oldest_output(db: sqlite3.Connection) -> int | None:
    """Return the time of the oldest output."""
    oldest = db.execute(retention_queries.HOLDS_OLDEST).fetchone()
    if oldest is None:
        return None
    (handle,) = oldest
    trimmed = trimmed_of(db, handle)
    first = _first_row(db, handle, trimmed.last_seq if trimmed else 0)
    return first and first[2]


def holdings(db: sqlite3.Connection, query: HoldingQuery) -> list[Holding]:
    """Implement `Storage.holdings`."""
    where: Mapping[str, int] = {
        "above": query.above_bytes,
        "before": MAX_INTEGER if query.before_ms is None else query.before_ms,
        "handle": query.after_handle,
        "limit": query.limit,
    }
    return [_holding(row) for row in db.execute(retention_queries.HOLDINGS[query.rule], where)]


def _holding(row: tuple[Any, ...]) -> Holding:
    handle, count, oldest_ms, output_ms, keep_bytes, ended_ms, always = row
    keep = None
    if always is not None:
        keep = Keep(output_s=_seconds(output_ms), bytes=keep_bytes, ended_s=_seconds(ended_ms), always=bool(always))
    return Holding(handle=handle, bytes=count, oldest_ms=oldest_ms, keep=keep)


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000


def kept_always(db: sqlite3.Connection) -> int:
    """Implement `Storage.kept_always`."""
    count: int = db.execute(retention_queries.KEPT_ALWAYS).fetchone()[0]
    return count


def has_trimmed(db: sqlite3.Connection, *, handle: int | None, since_ms: int | None) -> bool:
    """Implement `Storage.has_trimmed`."""
    since = -MAX_INTEGER if since_ms is None else since_ms
    if handle is None:
        return db.execute(retention_queries.ANY_TRIMMED, (since,)).fetchone() is not None
    trimmed = trimmed_of(db, handle)
    return trimmed is not None and trimmed.until_ms >= since


def ended_by_own_limit(db: sqlite3.Connection, *, limit: int, until_ms: int) -> list[EndedProcess]:
    """Return the processes that have ended for good as long ago as their start says."""
    return [EndedProcess(*row) for row in db.execute(queries.ENDED_BY_OWN_LIMIT, {"until": until_ms, "limit": limit})]


# ---- between commits


def has_trimmed_rows(db: sqlite3.Connection) -> bool:
    """Tell whether rows are left that are to be deleted."""
    return db.execute(retention_queries.TRIMMED_LEFT).fetchone() is not None


def delete_trimmed_rows(db: sqlite3.Connection) -> bool:
    """Delete rows of trimmed processes, for a moment. Return False if there are none."""
    if not has_trimmed_rows(db):
        return False
    is_left = transact_for_a_moment(db, _delete_rows)
    failpoint("after-trim-deletion")
    return is_left


def _delete_rows(db: sqlite3.Connection) -> bool:
    left = db.execute(retention_queries.TRIMMED_LEFT).fetchone()
    if left is None:
        return False
    handle, mark = left
    room = STEP_ROWS
    for stream in _STREAMS:
        where = {"handle": handle, "stream": stream, "mark": mark, "limit": room}
        room -= db.execute(retention_queries.DELETE_TRIMMED, where).rowcount
        failpoint("inside-trim-deletion")
        if room <= 0:
            return True
    for stream in _STREAMS:
        db.execute(retention_queries.EMPTY_TRIMMED, {"handle": handle, "stream": stream, "mark": mark})
    db.execute(retention_queries.TRIM_IS_DONE, (handle,))
    return True


def trim_events(db: sqlite3.Connection, *, before_ms: int, limit: int) -> int:
    """Implement `Storage.trim_events`, in the caller's transaction."""
    (newest,) = db.execute(queries.LAST_EVENT).fetchone()
    count = last_id = 0
    for event_id, latest_ts in db.execute(queries.OLDEST_EVENTS, (limit,)):
        if latest_ts >= before_ms or event_id == newest:
            break
        count, last_id = count + 1, event_id
    if count:
        db.execute(queries.SET_EVENTS_TRIMMED, (last_id,))
        db.execute(queries.DELETE_EVENTS_UPTO, (last_id,))
    return count

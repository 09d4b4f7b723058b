"""Commits: a batch of changes, applied inside one transaction on the writer's thread."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from outlast.failpoints import failpoint
from outlast.model.clock import now_ms
from outlast.model.event import EventType, PurgeReason
from outlast.model.managed import Desired, ManagedState
from outlast.model.output import Chunk, Position, Stream
from outlast.model.process import ExitStatus, ProcessSpec, Run
from outlast.model.totals import OUTPUT_TOTALS, StartResult, Tally
from outlast.storage.base import (
    AddEvent,
    AddProcess,
    BeginRun,
    Change,
    ChangeSpec,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    RecordUsage,
    ResizeTerminal,
    SetManaged,
    TrimOutput,
    WithdrawProcess,
    WithdrawRun,
)
from outlast.storage.continuity import advance
from outlast.storage.sql.mapping import changed_to_row, managed_to_row, spec_to_row
from outlast.storage.sqlite import queries, retention_queries
from outlast.storage.sqlite.codec import ZLIB
from outlast.storage.sqlite.figures import output_totals
from outlast.storage.sqlite.packed import BOTH_STREAMS
from outlast.storage.sqlite.rows import (
    LARGE_BYTES,
    TIME_BYTES,
    Group,
    encode_chunk_times,
    position_from_rows,
    stored_bytes,
)
from outlast.storage.sqlite.trimming import held_bytes, trim_output

Compress = Callable[[bytes], bytes | None]


@dataclass(slots=True)
class _OpenRow:
    """Chunks of one commit that go into one row: small ones of one stream that follow one another.

    Attributes:
        latest_ts: latest time of the process so far.
        position: position of the process after the last of the chunks.
    """

    latest_ts: int
    position: Position
    chunks: Group[Chunk] = field(default_factory=Group)


@dataclass(slots=True)
class _ClosedRow:
    """A row that is complete but for its totals: its columns, and the times of its chunks."""

    columns: tuple[object, ...]
    times_ms: list[int]


class Batch:
    """Changes of one commit while they are applied, and the position that each process's output has reached."""

    def __init__(self, db: sqlite3.Connection, compress: Compress | None = None) -> None:
        """`compress`: returns the data of a row compressed, or None if they stay as they are. None: all stay so."""
        self.handles: dict[str, int] = {}
        self._db = db
        self._compress = compress
        self._output: dict[int, tuple[Position, int] | None] = {}
        self._open: dict[int, _OpenRow] = {}
        self._held: dict[int, tuple[int, int]] = {}
        self._trims: list[TrimOutput] = []
        self._last_row: _ClosedRow | None = None
        self._totals_before: list[int] = []
        self._next_minute_ms: int | None = None
        self._tally = Tally()

    def apply(self, change: Change) -> None:  # noqa: C901, PLR0912 - one case a kind of change
        """Apply one change.

        Raises:
            ValueError: a chunk does not continue its process's output.
        """
        match change:
            case Chunk():
                self._add_chunk(change)
            case AddProcess():
                self._add_process(change)
            case BeginRun(handle=handle, run=run):
                self._begin_run(handle, run)
            case WithdrawRun(handle=handle, run=run):
                self._withdraw_run(handle, run)
            case ChangeSpec(handle=handle, spec=spec):
                if self._stored(handle) is not None:
                    self._db.execute(queries.CHANGE_SPEC, (*changed_to_row(spec), handle))
                    self._db.execute(queries.DELETE_TAGS, (handle,))
                    self._db.execute(retention_queries.DELETE_KEEP, (handle,))
                    self._add_details(handle, spec)
            case SetManaged(handle=handle, state=state):
                self._set_managed(handle, state)
            case EndRun():
                self._end_run(change)
            case CompleteOutput(handle=handle, run=run):
                self._db.execute(queries.COMPLETE_OUTPUT, (handle, run))
            case RecordUsage():
                self._record_usage(change)
            case ResizeTerminal(handle=handle, resize=size):
                self._db.execute(queries.ADD_SIZE, (handle, size.ts_ms, size.rows, size.cols))
            case AddEvent():
                self._add_event_once(change)
            case PurgeProcess(handle=handle):
                if change.rule is not None and self._stored(handle) is not None:
                    self._tally.count_purge(change.rule, held_bytes(self._db, handle))
                self._purge(handle, EventType.PURGED, change.reason)
            case TrimOutput():
                self._trims.append(change)
            case WithdrawProcess(process_id=process_id):
                known = self._handle(process_id)
                if known is not None:
                    self._purge(known, EventType.FAILED)

    def _add_chunk(self, chunk: Chunk) -> None:
        output = self._stored(chunk.handle)
        if output is None:
            return
        stored, latest_ts = output
        position = advance(stored, chunk)
        if position is None:
            return
        self._tally.count_chunk(chunk)
        latest_ts = max(latest_ts, chunk.ts_ms)
        self._output[chunk.handle] = position, latest_ts
        size = len(chunk.data) + TIME_BYTES
        row = self._open.get(chunk.handle)
        if (
            row is not None
            and not chunk.gap
            and len(chunk.data) <= LARGE_BYTES
            and row.chunks.continues_stream(chunk, size)
        ):
            row.chunks.append(chunk, size)
            row.latest_ts = latest_ts
            row.position = position
            return
        self._close_row(chunk.handle)
        row = _OpenRow(latest_ts, position)
        row.chunks.append(chunk, size)
        if chunk.gap:
            missing_bytes = position.stdout_end + position.stderr_end - stored.stdout_end - stored.stderr_end
            self._add_row(row, missing_bytes)
        elif len(chunk.data) > LARGE_BYTES:
            self._add_row(row)
        else:
            self._open[chunk.handle] = row

    def finish(self) -> None:
        """Store the rows that were kept open for further chunks, and the totals."""
        for row in self._open.values():
            self._add_row(row)
        self._open = {}
        if self._last_row is not None:
            grown = [self._tally.pop(key, 0) for key in OUTPUT_TOTALS]
            totals = [before + count for before, count in zip(self._totals_before, grown, strict=True)]
            self._insert(self._last_row, str(totals))
            self._last_row = None
        for handle, (count, oldest_ts) in self._held.items():
            if not self._db.execute(retention_queries.RAISE_HOLDING, (count, handle)).rowcount:
                self._db.execute(retention_queries.ADD_HOLDING, (handle, count, oldest_ts))
        for change in self._trims:  # they look at rows, so these are stored first
            if self._stored(change.handle) is not None:
                self._tally.count_removed(change.rule, trim_output(self._db, change))
        if self._tally:
            self._db.executemany(queries.ADD_TO_TOTAL, [(*key, count) for key, count in self._tally.items()])

    def _close_row(self, handle: int) -> None:
        row = self._open.pop(handle, None)
        if row is not None:
            self._add_row(row)

    def _add_row(self, row: _OpenRow, missing_bytes: int | None = None) -> None:
        chunks = row.chunks.members
        first, last = chunks[0], chunks[-1]
        if first is last:
            ts, parts, data = first.ts_ms, None, first.data
        else:
            ts, parts = encode_chunk_times([(chunk.line_count, chunk.ts_ms) for chunk in chunks])
            data = b"".join(chunk.data for chunk in chunks)
        compressed = self._compress(data) if self._compress and data else None
        codec, raw_bytes = (None, None) if compressed is None else (ZLIB, len(data))
        unfinished = row.position.unfinished_line(first.stream)
        columns = (
            first.handle,
            first.run,
            first.first_seq,
            row.chunks.lines,
            first.stream,
            ts,
            row.latest_ts,
            last.stdout_end,
            last.stderr_end,
            row.position.lines,
            first.continues,
            unfinished.size if unfinished else 0,
            data if compressed is None else compressed,
            first.gap,
            missing_bytes,
            parts,
            codec,
            raw_bytes,
        )
        count, oldest_ts = self._held.get(first.handle, (0, row.latest_ts))
        self._held[first.handle] = count + stored_bytes(data if compressed is None else compressed, parts), oldest_ts
        if self._last_row is None:
            self._totals_before = output_totals(self._db)
        else:
            self._insert(self._last_row, None)
        self._last_row = _ClosedRow(columns, [chunk.ts_ms for chunk in chunks])

    def _insert(self, row: _ClosedRow, totals: str | None) -> None:
        added = self._db.execute(queries.ADD_CHUNK, (*row.columns, totals))
        for ts_ms in row.times_ms:
            self._note_minute(ts_ms, added.lastrowid)

    def _note_minute(self, ts_ms: int, chunk_id: int | None) -> None:
        if self._next_minute_ms is None:
            self._next_minute_ms = int(self._db.execute(queries.NEXT_MINUTE).fetchone()[0])
        if ts_ms >= self._next_minute_ms:
            self._db.execute(queries.ADD_MINUTE, (ts_ms, chunk_id))
            self._next_minute_ms = ts_ms + queries.MINUTE_MS

    def _stored(self, handle: int) -> tuple[Position, int] | None:
        if handle not in self._output:
            self._output[handle] = _stored_output(self._db, handle)
        return self._output[handle]

    def _add_process(self, change: AddProcess) -> None:
        spec, run = change.spec, change.run
        known = self._handle(spec.id)
        if known is not None:
            self.handles[spec.id] = known
            return
        if spec.idempotency_key is not None and self._db.execute(queries.HAS_KEY, (spec.idempotency_key,)).fetchone():
            spec = replace(spec, idempotency_key=None)
        cursor = self._db.execute(queries.ADD_PROCESS, (*spec_to_row(spec), run.started_at_ms))
        handle = cursor.lastrowid
        assert handle is not None  # noqa: S101 - an INSERT has just succeeded
        self._add_run(handle, run)
        self._db.execute(queries.ADD_UNMERGED, (handle, 0))
        if spec.is_managed:
            self._db.execute(queries.ADD_MANAGED, (handle, *managed_to_row(ManagedState())))
        self._add_details(handle, spec)
        self.handles[spec.id] = handle
        self._tally.count_start(StartResult.RECORDED)
        self._add_event(handle, run.number, EventType.STARTED, run.started_at_ms)
        if run.ending is not None:
            self._tally.count_end(run.ending)
            self._add_event(handle, run.number, EventType.of_end(run.ending), run.ending.ended_at_ms, run.ending)

    def _add_details(self, handle: int, spec: ProcessSpec) -> None:
        """Add what has tables of its own."""
        keep = spec.options.keep
        if keep is not None:
            times = [None if seconds is None else seconds * 1000 for seconds in (keep.output_s, keep.ended_s)]
            self._db.execute(retention_queries.ADD_KEEP, (handle, times[0], keep.bytes, times[1], keep.always))
        self._db.executemany(queries.ADD_TAG, [(handle, key, value) for key, value in spec.tags.items()])

    def _add_run(self, handle: int, run: Run) -> bool:
        """Add a run. Return False if it is stored already."""
        end = run.ending
        ending = (end.reason, end.exit_code, end.signal) if end else (None, None, None)
        added = self._db.execute(
            queries.ADD_RUN,
            (
                handle,
                run.number,
                run.pid,
                run.started_at_ms,
                end and end.ended_at_ms,
                run.status,
                *ending,
                run.output_complete,
            ),
        )
        return added.rowcount > 0

    def _begin_run(self, handle: int, run: Run) -> None:
        output = self._stored(handle)
        if output is not None and self._add_run(handle, run):
            self._db.execute(queries.SUPERSEDE_RUNS, (handle, run.number))
            self._db.execute(queries.ADD_UNMERGED, (handle, output[0].last_seq))
            self._tally.count_restart()
            self._add_event(handle, run.number, EventType.RESTARTED, run.started_at_ms)

    def _withdraw_run(self, handle: int, run: int) -> None:
        if run > 1 and self._db.execute(queries.HAS_RUN, (handle, run)).fetchone():
            self._tally.count_start(StartResult.FAILED)
            self._add_event(handle, run, EventType.FAILED, now_ms())
            self._db.execute(queries.WITHDRAW_RUN, (handle, run))
            self._db.execute(queries.RESTORE_LAST_RUN, {"handle": handle})

    def _end_run(self, change: EndRun) -> None:
        end = change.ending
        row = (end.ended_at_ms, end.status, end.reason, end.exit_code, end.signal, change.handle, change.run)
        if self._db.execute(queries.END_RUN, row).rowcount:
            self._tally.count_end(end)
            self._add_event(change.handle, change.run, EventType.of_end(end), end.ended_at_ms, end)

    def _add_event_once(self, change: AddEvent) -> None:
        key = {"handle": change.handle, "run": change.run, "type": change.type, "ts": change.ts_ms}
        if self._db.execute(queries.HAS_EVENT, key).fetchone() is None:
            self._add_event(change.handle, change.run, change.type, change.ts_ms)

    def _add_event(self, handle: int, run: int, type_: EventType, ts_ms: int, ending: ExitStatus | None = None) -> None:
        """Add an event of a stored run."""
        self._db.execute(
            queries.ADD_EVENT,
            {
                "handle": handle,
                "run": run,
                "type": type_,
                "ts": ts_ms,
                "reason": ending and ending.reason,
                "exit_code": ending and ending.exit_code,
                "signal": ending and ending.signal,
            },
        )

    def _set_managed(self, handle: int, state: ManagedState) -> None:
        if state.desired is Desired.STOPPED and self._db.execute(queries.IS_TO_RUN, (handle,)).fetchone():
            stopped = {"handle": handle, "type": EventType.STOPPED, "ts": now_ms(), "reason": None}
            self._db.execute(queries.ADD_LAST_EVENT, stopped)
        self._db.execute(queries.SET_MANAGED, (*managed_to_row(state), handle))

    def _record_usage(self, change: RecordUsage) -> None:
        peak, history = change.usage.peak, change.usage.history
        text = json.dumps(history, separators=(",", ":")) if history else None
        figures = (getattr(peak, name) for name in queries.PEAKS)
        self._db.execute(queries.RECORD_USAGE, (text, *figures, change.handle, change.run))

    def _handle(self, process_id: str) -> int | None:
        row = self._db.execute(queries.HANDLE_BY_ID, (process_id,)).fetchone()
        return None if row is None else int(row[0])

    def _purge(self, handle: int, type_: EventType, reason: PurgeReason | None = None) -> None:
        if self._db.execute(queries.IS_STORED, (handle,)).fetchone():
            if type_ is EventType.FAILED:
                self._tally.count_start(StartResult.FAILED)
            self._db.execute(queries.DELETE_EVENTS, (handle,))
            last = {"handle": handle, "type": type_, "ts": now_ms(), "reason": reason}
            self._db.execute(queries.ADD_LAST_EVENT, last)
            for statement in queries.PURGE:
                self._db.execute(statement, (handle,))
            self._db.execute(queries.COUNT_PURGED)
        self._output[handle] = None
        self._open.pop(handle, None)
        self._held.pop(handle, None)


def stored_position(db: sqlite3.Connection, handle: int) -> Position:
    """Implement `Storage.position`."""
    output = _stored_output(db, handle)
    return Position() if output is None else output[0]


def _stored_output(db: sqlite3.Connection, handle: int) -> tuple[Position, int] | None:
    """Return the position and the latest time of a process's stored output, None for an unknown process."""
    if db.execute(queries.IS_STORED, (handle,)).fetchone() is None:
        return None
    streams = (*Stream, BOTH_STREAMS)
    ends = [db.execute(queries.LAST_OF_STREAM, (handle, stream)).fetchone() or (None,) * 8 for stream in streams]
    return position_from_rows(*ends), max(latest_ts or 0 for *_, latest_ts in ends)


def commit(db: sqlite3.Connection, changes: Sequence[Change], *, compress: Compress | None = None) -> Mapping[str, int]:
    """Apply `changes` in the caller's transaction; return the handles of added processes by process id.

    `compress`: see `Batch`.
    """
    if not changes:
        db.execute(queries.WRITE_NOTHING)
    batch = Batch(db, compress)
    for change in changes:
        batch.apply(change)
        failpoint("inside-commit")
    batch.finish()
    return batch.handles

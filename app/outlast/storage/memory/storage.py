"""Storage in the memory of its process, for tests and for trying things out. URL `memory:`."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

from outlast.model.clock import now_ms
from outlast.model.errors import StorageError
from outlast.model.event import EventFilter, EventPage, EventType, PurgeReason
from outlast.model.managed import Desired, ManagedState
from outlast.model.output import ChunkQuery, Position, Stream
from outlast.model.process import Order, Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.retention import Holding, HoldingQuery, TrimPoint, TrimQuery
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.totals import StartResult, StoreFigures, Tally
from outlast.model.usage import RunUsage
from outlast.storage.base import (
    AddEvent,
    AddProcess,
    BeginRun,
    Change,
    ChangeSpec,
    Chunk,
    CompleteOutput,
    EndedProcess,
    EndRun,
    PurgeProcess,
    RecordUsage,
    ResizeTerminal,
    SetManaged,
    Storage,
    TrimOutput,
    Unfinished,
    WithdrawProcess,
    WithdrawRun,
)
from outlast.storage.continuity import advance
from outlast.storage.memory import retention
from outlast.storage.memory.events import MemoryEvents
from outlast.storage.memory.record import Record, continues, index_from, whole_lines
from outlast.storage.memory.scan import Written
from outlast.storage.whole_lines import End, Span, find_tail


class MemoryStorage(Storage):
    """A storage in memory, without bounds."""

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._handles: dict[str, int] = {}
        self._by_key: dict[str, int] = {}
        self._by_pid: dict[int, list[int]] = {}
        self._unfinished: set[int] = set()
        self._ended: list[EndedProcess] = []
        self._last_handle = 0
        self._written = Written()
        self._events = MemoryEvents()
        self._tally = Tally()

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> Self:  # noqa: ARG003 - neither applies to memory
        """Return an empty storage for the URL `memory:`."""
        if url != "memory:":
            raise StorageError(f"storage {url!r}: write memory: and nothing behind it")
        return cls()

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing; the data live as long as this object."""

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Check all changes, then apply them without a pause in between."""
        self._check(changes)
        handles: dict[str, int] = {}
        for change in changes:
            match change:
                case AddProcess():
                    handles[change.spec.id] = self._add(change)
                case PurgeProcess():
                    if change.rule is not None and change.handle in self._records:
                        self._tally.count_purge(change.rule, self._records[change.handle].held_bytes)
                    self._purge(change.handle, EventType.PURGED, change.reason)
                case WithdrawProcess():
                    self._purge(self._handles.get(change.process_id, 0), EventType.FAILED)
                case _ if change.handle in self._records:
                    self._update(self._records[change.handle], change)
        return handles

    async def process(self, handle: int) -> Process | None:
        """Return a process by handle."""
        record = self._records.get(handle)
        return record.process if record else None

    async def process_by_id(self, process_id: str) -> Process | None:
        """Return a process by ULID."""
        return await self.process(self._handles.get(process_id, 0))

    async def process_by_pid(self, pid: int) -> Process | None:
        """Return the newest process that had this operating-system pid."""
        return await self.process(max(self._by_pid.get(pid, ()), default=0))

    async def process_by_key(self, key: str) -> Process | None:
        """Return the process that has this `idempotency_key`."""
        return await self.process(self._by_key.get(key, 0))

    async def process_by_name(self, name: str) -> Process | None:
        """Return the newest process that was given this name."""
        named = [handle for handle, record in self._records.items() if record.process.spec.name == name]
        return await self.process(max(named, default=0))

    async def runs(self, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
        """List a process's runs, newest first."""
        record = self._records.get(handle)
        runs = [record.process.run, *reversed(record.earlier)] if record else []
        return [run for run in runs if before_number is None or run.number < before_number][:limit]

    async def position(self, handle: int) -> Position:
        """Return the position of a process's output."""
        record = self._records.get(handle)
        return record.position if record else Position()

    async def supervised(self) -> list[Process]:
        """Return the managed processes whose desired state is `RUNNING`, oldest first."""
        return [record.process for record in self._records.values() if record.may_restart]

    async def processes(self, query: ProcessQuery) -> list[Process]:
        """List processes, in the order that the query names."""
        found: list[Process] = []
        records = self._records.values()
        for record in records if query.order is Order.OLDEST else reversed(records):
            if len(found) >= query.limit:
                break
            if _matches(record, query):
                found.append(record.process)
        return found

    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read chunks of all processes."""
        return self._written.scan(
            scan,
            lambda chunk: whole_lines(self._records[chunk.handle], chunk) if chunk.handle in self._records else None,
        )

    async def unfinished(self) -> list[Unfinished]:
        """List the processes that have not ended or whose output is not complete, oldest first."""
        records = [self._records[handle] for handle in sorted(self._unfinished)]
        return [Unfinished(record.process, record.position) for record in records]

    async def resizes(self, handle: int) -> list[Resize]:
        """Return the sizes that a process's terminal was given."""
        record = self._records.get(handle)
        return [] if record is None else [record.sizes[ts_ms] for ts_ms in sorted(record.sizes)]

    async def ended(
        self,
        *,
        limit: int,
        after: EndedProcess | None = None,
        until_ms: int | None = None,
        own_until_ms: int | None = None,
    ) -> list[EndedProcess]:
        """List the processes that have ended for good, oldest end first."""
        found: list[EndedProcess] = []
        for index in range(bisect_right(self._ended, after) if after else 0, len(self._ended)):
            ended = self._ended[index]
            if len(found) == limit or (until_ms is not None and ended.ended_at_ms > until_ms):
                break
            if retention.may_go(self._records[ended.handle], ended, until_ms, own_until_ms):
                found.append(ended)
        return found

    async def kept_always(self) -> int:
        """Count the processes that are kept always."""
        return sum(record.keep.always for record in self._records.values())

    async def held_bytes(self, handle: int | None = None) -> int:
        """Return the bytes of output that is not deleted."""
        if handle is not None:
            return self._records[handle].held_bytes if handle in self._records else 0
        return sum(record.held_bytes for record in self._records.values() if not record.keep.always)

    async def holdings(self, query: HoldingQuery) -> list[Holding]:
        """Return what processes hold."""
        return retention.holdings(self._records.values(), query)

    async def trim_point(self, query: TrimQuery) -> TrimPoint | None:
        """Return where to cut the output of a process, at the end of a chunk."""
        record = self._records.get(query.handle)
        return retention.trim_point(record, query) if record else None

    async def has_trimmed(self, *, handle: int | None = None, since_ms: int | None = None) -> bool:
        """Tell whether output was trimmed."""
        records = self._records.values() if handle is None else filter(None, [self._records.get(handle)])
        trimmed = [record.trimmed for record in records if record.trimmed is not None]
        return any(since_ms is None or one.until_ms >= since_ms for one in trimmed)

    async def trim_events(self, *, before_ms: int, limit: int) -> int:
        """Delete old events."""
        return self._events.trim(before_ms, limit)

    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return the recorded usage of a run."""
        record = self._records.get(handle)
        return record.usage.get(run, RunUsage()) if record is not None and _has_run(record, run) else None

    async def total(self) -> int:
        """Count the stored processes."""
        return len(self._records)

    async def figures(self) -> StoreFigures:
        """Return the totals."""
        return StoreFigures(totals=dict(self._tally), oldest_output_ms=retention.oldest_ms(self._records.values()))

    async def chunks(self, query: ChunkQuery) -> list[Chunk]:
        """Read output in order of `first_seq`."""
        if query.handle not in self._records:
            return []
        record = self._records[query.handle]
        gap = record.trimmed.gap(query) if record.trimmed else None
        stored = record.output[query.stream]
        index = bisect_right(stored, query.after_seq, key=lambda entry: entry.chunk.last_seq)
        end = len(stored)
        if query.since_ms is not None:
            index = max(index, bisect_left(stored, query.since_ms, key=lambda entry: entry.latest_ms))
        if query.until_ms is not None:
            end = bisect_right(stored, query.until_ms, key=lambda entry: entry.latest_ms)
        found: list[Chunk] = [gap] if gap else []
        size = 0
        while index < end and (not size or size < query.max_bytes):
            chunk: Chunk | None = stored[index].chunk.after(query.after_seq)
            index += 1
            if chunk is not None and query.whole_lines:
                chunk = whole_lines(record, chunk, seen_seq=query.seen_seq)
            if chunk is not None:
                found.append(chunk)
                size += len(chunk.data)
        return found

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None, before: int | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` lines."""
        if handle not in self._records:
            return 0
        output = self._records[handle].output
        stored, end = output[stream], None
        if before is not None:
            stored = stored[: index_from(stored, before)]
            end = End(before, {it: continues(output[it], index_from(output[it], before)) for it in Stream})
        chunks = (entry.chunk for entry in reversed(stored))
        spans = (Span(it.first_seq, it.line_count, it.stream, it.gap is not None, it.continues) for it in chunks)
        return find_tail(spans, lines, end)

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids."""
        return self._events.page(after, limit, wanted)

    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` that are wanted."""
        return self._events.tail(count, wanted)

    def _check(self, changes: Sequence[Change]) -> None:
        """Raise before anything is changed if a chunk does not continue its process's output."""
        positions = {
            change.handle: self._records[change.handle].position
            for change in changes
            if isinstance(change, Chunk) and change.handle in self._records
        }
        for change in changes:
            if isinstance(change, PurgeProcess):
                positions.pop(change.handle, None)
            elif isinstance(change, WithdrawProcess):
                positions.pop(self._handles.get(change.process_id, 0), None)
            elif isinstance(change, Chunk) and change.handle in positions:
                positions[change.handle] = advance(positions[change.handle], change) or positions[change.handle]

    def _add(self, change: AddProcess) -> int:
        if change.spec.id in self._handles:
            return self._handles[change.spec.id]
        self._last_handle = handle = self._last_handle + 1
        self._handles[change.spec.id] = handle
        self._by_pid.setdefault(change.run.pid, []).append(handle)
        spec = change.spec
        if spec.idempotency_key is not None and self._by_key.setdefault(spec.idempotency_key, handle) != handle:
            spec = replace(spec, idempotency_key=None)
        newest = next(reversed(self._records.values()), None)
        latest_start_ms = max(change.run.started_at_ms, newest.latest_start_ms if newest else 0)
        managed = ManagedState() if spec.is_managed else None
        record = Record(Process(handle=handle, spec=spec, run=change.run, managed=managed), latest_start_ms)
        self._put(record)
        self._tally.count_start(StartResult.RECORDED)
        self._events.add(record.process, EventType.STARTED, change.run.started_at_ms)
        if change.run.ending:
            self._tally.count_end(change.run.ending)
            self._events.add_end(record.process)
        return handle

    def _purge(self, handle: int, type_: EventType, reason: PurgeReason | None = None) -> None:
        record = self._records.pop(handle, None)
        if record:
            if type_ is EventType.FAILED:
                self._tally.count_start(StartResult.FAILED)
            self._events.bury(record.process, type_, reason)
            self._unfinished.discard(handle)
            self._set_ended(record, None)
            self._written.forget(entry.place for entry in record.output[None])
            for run in (*record.earlier, record.process.run):
                self._by_pid[run.pid].remove(handle)
            del self._handles[record.process.spec.id]
            if record.process.spec.idempotency_key is not None:
                del self._by_key[record.process.spec.idempotency_key]

    def _update(  # noqa: C901, PLR0912 - one case a kind of change
        self,
        record: Record,
        change: Chunk
        | BeginRun
        | WithdrawRun
        | ChangeSpec
        | SetManaged
        | EndRun
        | CompleteOutput
        | AddEvent
        | RecordUsage
        | ResizeTerminal
        | TrimOutput,
    ) -> None:
        process = record.process
        if isinstance(change, BeginRun):
            self._begin_run(record, change.run)
        elif isinstance(change, WithdrawRun):
            if change.run == process.run.number and record.earlier:
                self._tally.count_start(StartResult.FAILED)
                self._events.add(process, EventType.FAILED, now_ms())
                self._by_pid[process.run.pid].remove(process.handle)
                record.process = replace(process, run=record.earlier.pop())
        elif isinstance(change, ChangeSpec):
            old = process.spec
            spec = replace(change.spec, id=old.id, name=old.name, idempotency_key=old.idempotency_key)
            record.process = replace(process, spec=spec)
        elif isinstance(change, SetManaged):
            self._set_managed(record, change.state)
        elif isinstance(change, Chunk):
            position = advance(record.position, change)
            if position is not None:
                record.append(change, position, self._written.add(change))
                self._tally.count_chunk(change)
        elif isinstance(change, TrimOutput):
            before = record.held_bytes
            self._written.forget(retention.trim(record, change.upto_seq))
            self._tally.count_removed(change.rule, before - record.held_bytes)
        elif isinstance(change, RecordUsage):
            _record_usage(record, change)
        elif isinstance(change, ResizeTerminal):
            record.sizes[change.resize.ts_ms] = change.resize
        elif isinstance(change, AddEvent):
            if change.run == process.run.number:
                self._events.add_once(process, change.type, change.ts_ms)
        elif change.run == process.run.number and isinstance(change, CompleteOutput):
            record.process = replace(process, run=replace(process.run, output_complete=True))
        elif change.run == process.run.number and isinstance(change, EndRun) and process.run.ending is None:
            record.process = replace(process, run=replace(process.run, ending=change.ending))
            self._tally.count_end(change.ending)
            self._events.add_end(record.process)
        self._put(record)

    def _begin_run(self, record: Record, run: Run) -> None:
        if run.number > record.process.run.number:
            record.earlier.append(record.process.run)
            self._by_pid.setdefault(run.pid, []).append(record.process.handle)
            record.process = replace(record.process, run=run)
            self._tally.count_restart()
            self._events.add(record.process, EventType.RESTARTED, run.started_at_ms)

    def _set_managed(self, record: Record, state: ManagedState) -> None:
        process = record.process
        if record.may_restart and state.desired is Desired.STOPPED:
            self._events.add(process, EventType.STOPPED, now_ms())
        record.process = replace(process, managed=process.managed and state)

    def _put(self, record: Record) -> None:
        handle, run = record.process.handle, record.process.run
        self._records[handle] = record
        if run.ending and run.output_complete:
            self._unfinished.discard(handle)
            self._set_ended(record, EndedProcess(run.ending.ended_at_ms, handle, record.process.spec.id))
        else:
            self._unfinished.add(handle)
            self._set_ended(record, None)

    def _set_ended(self, record: Record, ended: EndedProcess | None) -> None:
        if record.ended == ended:
            return
        if record.ended is not None:
            del self._ended[bisect_left(self._ended, record.ended)]
        if ended is not None:
            insort(self._ended, ended)
        record.ended = ended


def _has_run(record: Record, number: int) -> bool:
    return any(run.number == number for run in (*record.earlier, record.process.run))


def _record_usage(record: Record, change: RecordUsage) -> None:
    if _has_run(record, change.run):
        stored = record.usage.get(change.run, RunUsage())
        record.usage[change.run] = RunUsage(
            peak=stored.peak.raised_to(change.usage.peak), history=change.usage.history or stored.history
        )


def _matches(record: Record, query: ProcessQuery) -> bool:
    handle, spec, run = record.process.handle, record.process.spec, record.process.run
    return (
        query.status in (None, run.status)
        and query.name in (None, spec.name)
        and all(spec.tags.get(key) == value for key, value in query.tags.items())
        and (query.since_ms is None or record.latest_start_ms >= query.since_ms)
        and (query.until_ms is None or record.latest_start_ms <= query.until_ms)
        and (query.before_handle is None or handle < query.before_handle)
        and (query.after_handle is None or handle > query.after_handle)
    )

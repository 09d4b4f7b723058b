"""Storage that ends with its process: for tests and for trying things out. URL `memory:`."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from app.model.errors import StorageError
from app.model.event import EventFilter, EventPage, EventType
from app.model.output import Position, Stream
from app.model.process import Order, OutputSummary, Process, ProcessQuery
from app.storage.base import (
    AddEvent,
    AddProcess,
    Change,
    Chunk,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    Storage,
    Unfinished,
    WithdrawProcess,
)
from app.storage.continuity import advance
from app.storage.memory_events import MemoryEvents


@dataclass(frozen=True, slots=True)
class _Stored:
    """A chunk, and the latest `ts_ms` of its process up to it."""

    chunk: Chunk
    latest_ms: int


def _streams() -> dict[Stream | None, list[_Stored]]:
    return {None: [], Stream.STDOUT: [], Stream.STDERR: []}


@dataclass(slots=True)
class _Record:
    process: Process
    latest_start_ms: int
    output: dict[Stream | None, list[_Stored]] = field(default_factory=_streams)

    @property
    def position(self) -> Position:
        return self.output[None][-1].chunk.position if self.output[None] else Position()


class MemoryStorage(Storage):
    """Keeps everything in memory, without bound."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._handles: dict[str, int] = {}
        self._by_key: dict[str, int] = {}
        self._by_pid: dict[int, list[int]] = {}
        self._unfinished: set[int] = set()
        self._last_handle = 0
        self._events = MemoryEvents()

    @classmethod
    def from_url(cls, url: str, *, durable: bool) -> Self:  # noqa: ARG003 - memory is as durable as it gets
        """Understand `memory:`."""
        if url != "memory:":
            raise StorageError(f"storage {url!r}: write memory: and nothing after it")
        return cls()

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing; what is stored lives as long as this object."""

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Check all changes, then apply them without a pause in between."""
        self._check(changes)
        handles: dict[str, int] = {}
        for change in changes:
            match change:
                case AddProcess():
                    handles[change.spec.id] = self._add(change)
                case PurgeProcess():
                    self._purge(change.handle, EventType.PURGED)
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
        handles = self._by_pid.get(pid)
        return await self.process(handles[-1]) if handles else None

    async def process_by_key(self, key: str) -> Process | None:
        """Return the process that has this `idempotency_key`."""
        return await self.process(self._by_key.get(key, 0))

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

    async def unfinished(self) -> list[Unfinished]:
        """List the processes that have not ended or whose output is not complete, oldest first."""
        records = [self._records[handle] for handle in sorted(self._unfinished)]
        return [Unfinished(record.process, record.position) for record in records]

    async def total(self) -> int:
        """Count the stored processes."""
        return len(self._records)

    async def chunks(
        self,
        handle: int,
        *,
        after_seq: int,
        max_bytes: int,
        stream: Stream | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[Chunk]:
        """Read output in order of `first_seq`."""
        if handle not in self._records:
            return []
        stored = self._records[handle].output[stream]
        index = bisect_right(stored, after_seq, key=lambda entry: entry.chunk.last_seq)
        end = len(stored)
        if since_ms is not None:
            index = max(index, bisect_left(stored, since_ms, key=lambda entry: entry.latest_ms))
        if until_ms is not None:
            end = bisect_right(stored, until_ms, key=lambda entry: entry.latest_ms)
        found: list[Chunk] = []
        size = 0
        while index < end and (not found or size < max_bytes):
            found.append(stored[index].chunk.after(after_seq))
            size += len(found[-1].data)
            index += 1
        return found

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` lines."""
        missing = lines
        stored = self._records[handle].output[stream] if handle in self._records else []
        for entry in reversed(stored):
            count = _count_lines(entry.chunk)
            if count >= missing:
                return entry.chunk.last_seq - missing
            missing -= count
        return 0

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
        record = _Record(Process(handle=handle, spec=spec, run=change.run), latest_start_ms)
        self._put(record)
        self._events.add(record.process, EventType.STARTED, change.run.started_at_ms)
        if change.run.ending:
            self._events.add_end(record.process)
        return handle

    def _purge(self, handle: int, type_: EventType) -> None:
        record = self._records.pop(handle, None)
        if record:
            self._events.bury(record.process, type_)
            self._unfinished.discard(handle)
            self._by_pid[record.process.run.pid].remove(handle)
            del self._handles[record.process.spec.id]
            if record.process.spec.idempotency_key is not None:
                del self._by_key[record.process.spec.idempotency_key]

    def _update(self, record: _Record, change: Chunk | EndRun | CompleteOutput | AddEvent) -> None:
        process = record.process
        if isinstance(change, Chunk):
            if advance(record.position, change) is not None:
                _append(record, change)
        elif isinstance(change, AddEvent):
            if change.run == process.run.number:
                self._events.add_once(process, change.type, change.ts_ms)
        elif change.run == process.run.number and isinstance(change, CompleteOutput):
            record.process = replace(process, run=replace(process.run, output_complete=True))
        elif change.run == process.run.number and isinstance(change, EndRun) and process.run.ending is None:
            record.process = replace(process, run=replace(process.run, ending=change.ending))
            self._events.add_end(record.process)
        self._put(record)

    def _put(self, record: _Record) -> None:
        handle, run = record.process.handle, record.process.run
        self._records[handle] = record
        if run.ending and run.output_complete:
            self._unfinished.discard(handle)
        else:
            self._unfinished.add(handle)


def _append(record: _Record, chunk: Chunk) -> None:
    everything = record.output[None]
    latest_ms = max(chunk.ts_ms, everything[-1].latest_ms if everything else 0)
    everything.append(_Stored(chunk, latest_ms))
    record.output[chunk.stream].append(everything[-1])
    before = record.process.output
    record.process = replace(
        record.process,
        output=OutputSummary(
            lines=before.lines + _count_lines(chunk),
            bytes=before.bytes + len(chunk.data),
            first_seq=1,
            last_seq=chunk.last_seq,
        ),
    )


def _count_lines(chunk: Chunk) -> int:
    return 0 if chunk.gap else chunk.line_count


def _matches(record: _Record, query: ProcessQuery) -> bool:
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

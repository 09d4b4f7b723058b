"""The storage contract: the calls that a plug-in implements, and the changes that it commits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from outlast.model.errors import InvalidRequest
from outlast.model.event import EventFilter, EventPage, EventType
from outlast.model.managed import ManagedState
from outlast.model.output import Chunk, ChunkQuery, Position, Stream
from outlast.model.process import ExitStatus, Process, ProcessQuery, ProcessSpec, Run
from outlast.model.resize import Resize
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.totals import StoreFigures
from outlast.model.usage import RunUsage

__all__ = [
    "AddEvent",
    "AddProcess",
    "BeginRun",
    "Change",
    "Chunk",
    "CompleteOutput",
    "EndRun",
    "Owner",
    "PurgeProcess",
    "RecordUsage",
    "ResizeTerminal",
    "SetManaged",
    "Storage",
    "Unfinished",
    "WithdrawProcess",
    "WithdrawRun",
]


@dataclass(frozen=True, slots=True)
class AddProcess:
    """Record a process that was started, with its first run. The commit returns its handle.

    A managed process (`spec.is_managed`) has a default `ManagedState()` from then on.
    """

    spec: ProcessSpec
    run: Run


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Record a later run of a process, its current run from then on. A stored number changes nothing."""

    handle: int
    run: Run


@dataclass(frozen=True, slots=True)
class WithdrawRun:
    """Delete a run (not the first), if it is stored, because its program could not be executed.

    The run before it is the current run again.
    """

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class SetManaged:
    """Replace the state of a managed process."""

    handle: int
    state: ManagedState


@dataclass(frozen=True, slots=True)
class EndRun:
    """Record the end of a run. Output may still follow."""

    handle: int
    run: int
    ending: ExitStatus


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Record an event that no other change implies (`EventType.UNHEALTHY`)."""

    handle: int
    run: int
    type: EventType
    ts_ms: int


@dataclass(frozen=True, slots=True)
class CompleteOutput:
    """Record that all output of a run is stored."""

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Record the resource usage of a run so far. May be committed before and after its end, any number of times.

    Each peak only rises; None never replaces a value. The history replaces the stored history, unless it is empty.
    """

    handle: int
    run: int
    usage: RunUsage


@dataclass(frozen=True, slots=True)
class ResizeTerminal:
    """Record a size of a process's terminal. Of two with the same time, the later change stays."""

    handle: int
    resize: Resize


@dataclass(frozen=True, slots=True)
class PurgeProcess:
    """Delete a process, its runs and its output. Its handle is never used again."""

    handle: int


@dataclass(frozen=True, slots=True)
class WithdrawProcess:
    """Delete a process as `PurgeProcess` does, if it is stored. For a start whose `AddProcess` may have been stored."""

    process_id: str


Change = (
    AddProcess
    | BeginRun
    | WithdrawRun
    | SetManaged
    | Chunk
    | EndRun
    | CompleteOutput
    | AddEvent
    | RecordUsage
    | ResizeTerminal
    | PurgeProcess
    | WithdrawProcess
)


@dataclass(frozen=True, slots=True)
class Owner:
    """The state folder that a store belongs to.

    Attributes:
        identity: its identity (`outlast.wire.identity`).
        state_dir: its path at that time.
        is_copied: whether the store has been copied since then, so that the folder may use another one.
    """

    identity: str
    state_dir: str
    is_copied: bool = False


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A process that has not ended or whose output is not complete, and the position of its output."""

    process: Process
    position: Position


class Storage(ABC):
    """A store of processes and their output.

    One `Storage` object belongs to one event loop. One task at a time calls `commit`. Any number of tasks may read,
    also during a commit; they see whole commits only, and every commit that returned before the read began. No read
    leaves a transaction, lock or cursor open when it returns. The cost of a read, `total` included, does not grow with
    the processes or lines that it does not return, with one exception: `processes` with several of status, name and
    tags may cost as much as the rarest of these conditions has matches.

    Errors: `StorageUnavailable` when something cannot be done now (disk full, locked, unreachable) and may be
    tried again; `StorageError` when the store cannot be used at all (newer schema, damaged, bad URL).
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> Self:
        """Return a storage for `url` that is not open yet, without I/O.

        Args:
            url: the setting `storage` as the operator wrote it, for instance `sqlite:////var/lib/outlast/outlast.db`.
            durable: whether a commit that has returned survives a loss of power, not only the death of this process.
            compress_after_s: age in seconds from which output may be compressed that was not compressed at once. None:
                nothing is compressed.

        Raises:
            StorageError: the plug-in does not understand the URL.
        """

    @abstractmethod
    async def open(self) -> None:
        """Open or create the store, and bring its schema up to date.

        Raises:
            AlreadyServed: another process has opened the store to write to it; nothing was changed.
            StorageDamaged: the store is damaged; nothing was changed.
            StorageError: the store was made by a newer version; nothing was changed.
            StorageUnavailable: the store cannot be reached now.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release all resources. Idempotent; everything committed stays."""

    async def check(self) -> None:
        """Check, without writing, that the store can still be reached. Called every few seconds without a commit.

        Raises:
            StorageUnavailable: a commit would fail now; the sentence says what to do.
        """
        await self.total()

    @abstractmethod
    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Apply `changes` in order, all or none, and return when they are durable.

        An empty batch changes nothing, but is written like any other: it fails if the store can write nothing. So it
        tells a store that fails from a change that fails.

        A chunk must begin where the stored output of its process ends: its `first_seq` is the stored `last_seq` + 1 (in
        a gap, that or greater: numbers may have holes there); the end of its own stream has grown by `len(data)` (in a
        gap, by any number of bytes), and the end of the other stream has not changed. If it `continues` a line, that is
        the unfinished line of its stream, and of its run. A chunk that continues none ends an unfinished line of its
        stream. `outlast.storage.continuity.advance` checks this. `ts_ms` may fall, because clocks are set back. Changes
        to a process that is not stored (this batch or an earlier one purged it) are ignored.

        The daemon commits a batch again, perhaps in other parts, when an answer was lost, so every change may be
        repeated. A chunk that is stored already (neither its `last_seq` nor its ends are beyond what is stored) is
        ignored. The first exit status of a run stays.

        Some changes add an event in the same transaction: `AddProcess` a `STARTED`, `BeginRun` a `RESTARTED`, `EndRun`
        an `EXITED` or `LOST`, `WithdrawRun` a `FAILED`, `AddEvent` its own. `WithdrawProcess` and `PurgeProcess` delete
        the events of the process and add one, `FAILED` or `PURGED`, with the current time. Event ids ascend in the
        order of the changes, so a reader that has seen an event never finds a new one with a smaller id. A change that
        changes nothing adds no event, and neither does an `AddEvent` that equals (in handle, run, type and time) one of
        the last hundred events of its process.

        Returns:
            The handle of the process of each `AddProcess`, by process id. Handles ascend in commit order and are
            never reused, not even after a purge or a restart. An `AddProcess` whose id is stored already changes
            nothing and returns the stored handle. If another stored process has its `idempotency_key`, the new
            process is stored without a key. (The daemon checks the key before it starts anything, so this should
            not happen; but an error here would block all output, because repeating the batch would not help.)

        Raises:
            StorageUnavailable: nothing was stored; the same call may be made again. A `StorageFull` says that there is
                no room for it, whatever the changes are. The store should keep some room for batches that only end
                (`EndRun`, `SetManaged`) or delete processes, because these are what makes room.
            ValueError: a chunk neither continues the output of its process nor is stored already (it repeats
                a part of what is stored, or skips something, or continues another line); nothing was stored.
        """

    @abstractmethod
    async def process(self, handle: int) -> Process | None:
        """Return a process by handle."""

    @abstractmethod
    async def process_by_id(self, process_id: str) -> Process | None:
        """Return a process by ULID."""

    @abstractmethod
    async def process_by_pid(self, pid: int) -> Process | None:
        """Return the newest process one of whose runs had this operating-system pid."""

    @abstractmethod
    async def process_by_key(self, key: str) -> Process | None:
        """Return the process that has this `idempotency_key`."""

    @abstractmethod
    async def process_by_name(self, name: str) -> Process | None:
        """Return the newest process that was given this name."""

    @abstractmethod
    async def runs(self, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
        """Return at most `limit` runs of a process, newest first, with numbers below `before_number` (None: all)."""

    @abstractmethod
    async def position(self, handle: int) -> Position:
        """Return the position of a process's output; of an unknown process, `Position()`."""

    @abstractmethod
    async def supervised(self) -> list[Process]:
        """Return the managed processes whose desired state is `RUNNING`, oldest first."""

    @abstractmethod
    async def processes(self, query: ProcessQuery) -> list[Process]:
        """Return the processes that meet the query, in the order of the query."""

    @abstractmethod
    async def unfinished(self) -> list[Unfinished]:
        """Return the processes that have not ended or whose output is not complete, oldest first."""

    @abstractmethod
    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return the recorded usage of a run, empty if none is recorded. None: there is no such run."""

    @abstractmethod
    async def resizes(self, handle: int) -> list[Resize]:
        """Return the sizes that a process's terminal was given, in the order of their times."""

    @abstractmethod
    async def total(self) -> int:
        """Return the number of stored processes."""

    @abstractmethod
    async def figures(self) -> StoreFigures:
        """Return totals and sizes of the store.

        A total counts each change once, however often it was committed, in the transaction of the change; a change that
        is ignored is not counted. No total ever falls, whatever is purged or withdrawn.
        """

    @abstractmethod
    async def chunks(self, query: ChunkQuery) -> list[Chunk]:
        """Read output, gaps included, in order of `first_seq`.

        An unknown process has no output. A chunk that holds the line `after_seq` is returned from the next line on,
        with the positions of the whole chunk.

        Chunks are returned as they were committed, with the parts of each line as separate lines. Only with
        `whole_lines`, they hold whole lines: a part that a later chunk continues is left out, even if the query does
        not select that chunk, and the earlier parts, which may lie before `after_seq` and `since_ms`, are put in front
        of the last one. So the line has the number and the time of its last part.
        `outlast.storage.whole_lines.with_whole_lines` does this to a chunk.
        """

    @abstractmethod
    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` (>= 0) lines.

        With `stream`, only lines of that stream count. Gaps do not count; gaps between and behind these lines are
        returned with them. If fewer lines are stored, `chunks` gives all of them. A line in parts counts once, where
        its last part is. Those parts of the first of the lines that lie directly before its last one (with `stream`:
        all of its parts) are behind the `after_seq`, too. `outlast.storage.whole_lines.find_tail` finds it.
        """

    @abstractmethod
    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids.

        A call examines a bounded number of events, so it may return fewer than `limit`, or none, although more are
        stored.

        Args:
            after: only events with a greater id.
            limit: maximum number of events (>= 1).
            wanted: conditions on the events.

        Returns:
            The events, and the `last_id` from which to continue. `last_id` equals `after` only if nothing is stored
            behind it.
        """

    @abstractmethod
    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` (>= 0) events that meet the conditions.

        If fewer are stored, `events` gives all of them. The cost may grow with the events that do not meet the
        conditions.
        """

    @abstractmethod
    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read a page of the output of all processes, in roughly the order in which it was stored, or in reverse.

        The chunks of each process come in their own order, with whole lines as `chunks` gives them. A chunk that is
        stored during a scan may be found or not, but no chunk is returned twice if the scan takes less than ten
        minutes. Purged processes have no output. The cost is that of the chunks examined, bounded by `max_chunks` and
        `max_bytes`, and of the parts of their lines.
        """

    async def owner(self) -> Owner | None:
        """Return whom the store belongs to. None: nobody has claimed it.

        A plug-in whose stores cannot be copied, nor used by two state folders, need not implement this and `claim`.
        """
        return None

    async def claim(self, owner: Owner) -> None:  # noqa: B027 - not every plug-in needs it
        """Record whom the store belongs to from now on. Not called during a commit.

        Raises:
            StorageUnavailable: nothing was stored; the same call may be made again.
        """

    async def sql(self, query: SqlQuery) -> bytes:
        """Run a query in the store's own SQL; the store need not be open.

        A query cannot change anything, and delays neither commits nor other reads.

        Returns:
            A JSON object: `columns`, names; `rows`, arrays of values (a blob is `{"base64": ...}`, an integer beyond
            2**53 and an infinite number are strings); `truncated`, whether there were more rows.

        Raises:
            InvalidRequest: this store has no SQL; or the query is wrong, writes, or takes too long.
            Unavailable: too many queries are running.
        """
        raise InvalidRequest(f"query cannot run: {type(self).__name__} has no SQL ({query.query!r:.40})")

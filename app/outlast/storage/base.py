"""The storage contract: what a plug-in promises, and the changes that it commits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from outlast.model.errors import InvalidRequest
from outlast.model.event import EventFilter, EventPage, EventType
from outlast.model.managed import ManagedState
from outlast.model.output import Chunk, Position, Stream
from outlast.model.process import ExitStatus, Process, ProcessQuery, ProcessSpec, Run
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.usage import RunUsage

__all__ = [
    "AddEvent",
    "AddProcess",
    "BeginRun",
    "Change",
    "Chunk",
    "CompleteOutput",
    "EndRun",
    "PurgeProcess",
    "RecordUsage",
    "SetManaged",
    "Storage",
    "Unfinished",
    "WithdrawProcess",
    "WithdrawRun",
]


@dataclass(frozen=True, slots=True)
class AddProcess:
    """A process has been started: record it with its first run. Its handle is the commit's answer.

    A managed one (`spec.is_managed`) has a plain `ManagedState()` from then on.
    """

    spec: ProcessSpec
    run: Run


@dataclass(frozen=True, slots=True)
class BeginRun:
    """A process has been started again: this is its current run. One whose number it has already changes nothing."""

    handle: int
    run: Run


@dataclass(frozen=True, slots=True)
class WithdrawRun:
    """Delete a run, not the first, if it is stored: its program could not be run. The one before is current again."""

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class SetManaged:
    """Put another state in the place of what a managed process has."""

    handle: int
    state: ManagedState


@dataclass(frozen=True, slots=True)
class EndRun:
    """A run has ended. Output may still come."""

    handle: int
    run: int
    ending: ExitStatus


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Something has happened to a process that no other change tells of (`EventType.UNHEALTHY`)."""

    handle: int
    run: int
    type: EventType
    ts_ms: int


@dataclass(frozen=True, slots=True)
class CompleteOutput:
    """All output of a run is stored, and nothing more will come."""

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """What a run has taken of the machine so far. May come before and after its end, and any number of times.

    Peaks only rise: of each figure the higher stays, also of a stored one and None. The history replaces what is
    stored, but an empty one leaves it as it is.
    """

    handle: int
    run: int
    usage: RunUsage


@dataclass(frozen=True, slots=True)
class PurgeProcess:
    """Delete a process, its runs and its output. The handle is never used again."""

    handle: int


@dataclass(frozen=True, slots=True)
class WithdrawProcess:
    """Delete a process, as `PurgeProcess` does, if it is stored: whether its `AddProcess` came through isn't known."""

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
    | PurgeProcess
    | WithdrawProcess
)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A process that has not ended or whose output is not complete, and how far its output is stored."""

    process: Process
    position: Position


class Storage(ABC):
    """Keeps processes and their output.

    One `Storage` object belongs to one event loop. `commit` is called by one task at a time; reads may be
    made by any number of tasks, also during a commit, and see only whole commits. A read that starts after a
    commit has returned sees it. No read leaves a transaction, lock or cursor open when it returns. The cost
    of a read, `total` included, does not grow with the processes or lines that it does not return, but for
    `processes` with several of status, name and tags: there it may grow with what meets the rarest of them.

    Errors: `StorageUnavailable` when something cannot be done now (disk full, locked, unreachable) and may be
    tried again; `StorageError` when the store cannot be used at all (newer schema, damaged, bad URL).
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int = 0) -> Self:
        """Make a closed storage for `url`, without I/O.

        Args:
            url: the setting `storage` as the operator wrote it, for instance `sqlite:////var/lib/outlast/outlast.db`.
            durable: a commit that has returned survives a loss of power, too, and not just this process's death.
            compress_after_s: output that is so old may be compressed where it lies. 0: none may.

        Raises:
            StorageError: the URL is not one that this plug-in understands.
        """

    @abstractmethod
    async def open(self) -> None:
        """Open or create the store, and bring its schema up to date.

        Raises:
            StorageError: it is damaged, or made by a newer version; nothing was changed.
            StorageUnavailable: it cannot be reached now.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release everything. Idempotent; everything committed stays."""

    @abstractmethod
    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Apply `changes` in order, all or none, and return when they are durable.

        A chunk must begin where the stored output of its process ends: `first_seq` is the stored `last_seq`
        + 1, and of `stdout_end` and `stderr_end` its stream's has grown by `len(data)` (a gap's by any number
        of bytes) while the other stands still (`outlast.storage.continuity.advance` is that rule). `ts_ms` may
        fall: clocks are set back. Changes to a process that is not stored (the same batch or an earlier one
        purged it) are ignored.

        A batch whose answer was lost is committed again, perhaps in other parts, so every change may be
        repeated. A chunk of which all is stored (neither its `last_seq` nor its ends are beyond what is stored)
        is ignored. Of several endings the first stays.

        A change that tells something makes an event, in the same transaction: `AddProcess` a `STARTED`, `EndRun` an
        `EXITED` or `LOST`, `AddEvent` its own. `WithdrawProcess` and `PurgeProcess` delete the process's events and
        leave one, a `FAILED` or `PURGED`, whose time is now. Their ids ascend in the order of the changes: whoever
        has seen an event will never find one with a smaller id that was not there. What changes nothing makes no
        event; an `AddEvent` whose like (handle, run, type, time) is among the last hundred of its process does not.

        Returns:
            The handle given to the process of each `AddProcess`, by process id. Handles ascend in commit
            order and are never reused, also after a purge or a restart. An `AddProcess` whose id is stored
            already changes nothing and returns the stored handle. One whose `idempotency_key` another stored
            process has is stored without it: the key stays where it is. (The daemon looks for a key before it
            starts anything; this must not happen, and if it does, a batch that no repeating can mend would
            hold up everybody's output.)

        Raises:
            StorageUnavailable: nothing was stored; the same call may be made again.
            ValueError: a chunk neither continues its process's output nor is stored already (it repeats a
                part of what is stored, or leaves something out); nothing was stored.
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
        """List a process's runs, newest first: at most `limit`, all with a number below `before_number`."""

    @abstractmethod
    async def position(self, handle: int) -> Position:
        """Return how far a process's output is stored; of an unknown one, the beginning."""

    @abstractmethod
    async def supervised(self) -> list[Process]:
        """List the managed processes that are to run, oldest first."""

    @abstractmethod
    async def processes(self, query: ProcessQuery) -> list[Process]:
        """List processes, in the order that the query names."""

    @abstractmethod
    async def unfinished(self) -> list[Unfinished]:
        """List the processes that have not ended or whose output is not complete, oldest first."""

    @abstractmethod
    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return what is recorded of a run's resources, empty if nothing is. None: there is no such run."""

    @abstractmethod
    async def total(self) -> int:
        """Count the stored processes."""

    @abstractmethod
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
        """Read output, gaps included, in order of `first_seq`.

        For `since_ms` and `until_ms` the time of a chunk is the latest `ts_ms` of its process up to and
        including it (of either stream). That is its own unless the clock was set back; and it never falls, so
        both bounds cut a whole range out of the output.

        Args:
            handle: of the process; an unknown one has no output.
            after_seq: the first line returned is the first one after this: a chunk that holds it is returned
                from the next line on, with the positions of the whole chunk.
            max_bytes: stop after the chunk with which the data reach this size (so one chunk is always
                returned, if there is any; a gap has no data).
            stream: only this stream's chunks.
            since_ms: only chunks with a time >= this.
            until_ms: only chunks with a time <= this.
        """

    @abstractmethod
    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` (>= 0) lines.

        With `stream`, the lines of that stream are counted. Gaps are not counted; those between and after these
        lines are given with them. With fewer lines than that, everything is given.
        """

    @abstractmethod
    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids.

        A call looks at a bounded number of events, whatever is wanted: it may find fewer than `limit`, or none, and
        there are more.

        Args:
            after: only those with a greater id.
            limit: at most so many (>= 1).
            wanted: which.

        Returns:
            What was found, and a `last_id` from which to go on. It is `after` only if nothing is stored behind it.
        """

    @abstractmethod
    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` (>= 0) of those that are wanted.

        With fewer than that, everything is given. Its cost may grow with the events that it has to pass over.
        """

    @abstractmethod
    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read a piece of the output of all processes, in about the order in which it was stored (or against it).

        Each process's chunks are in their own order; what is stored while somebody reads on from position to position
        is found or not, but nothing is given twice (if it is within ten minutes). Purged processes have no output. The
        cost is that of the chunks looked at, with `max_chunks` and `max_bytes` as bounds.
        """

    async def sql(self, question: SqlQuery) -> bytes:
        """Answer a question in the store's own SQL, also while the store is not open here.

        It can't change anything, nor hold up commits or other reads.

        Returns:
            A JSON object: `columns`, names; `rows`, arrays of values (a blob is `{"base64": ...}`, an integer beyond
            2**53 and an infinite number are strings); `truncated`, whether there were more.

        Raises:
            InvalidRequest: this store has no SQL; or the query is wrong, writes, or takes too long.
            Unavailable: too many others ask.
        """
        raise InvalidRequest(f"query can't be answered: {type(self).__name__} has no SQL ({question.query!r:.40})")

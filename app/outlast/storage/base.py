"""The storage contract: the calls that a plug-in implements, and the changes that it commits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from outlast.model.errors import InvalidRequest
from outlast.model.event import EventFilter, EventPage
from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import Chunk, ChunkQuery, Position, Stream, TrimGap, Trimmed
from outlast.model.process import Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.retention import Holding, HoldingQuery, TrimPoint, TrimQuery
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.totals import StoreFigures
from outlast.model.usage import RunUsage
from outlast.storage.changes import (
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
from outlast.storage.histogram import HistogramBuilder, empty_histogram

__all__ = [
    "AddEvent",
    "AddProcess",
    "BeginRun",
    "Change",
    "ChangeSpec",
    "Chunk",
    "CompleteOutput",
    "EndRun",
    "EndedProcess",
    "Owner",
    "PurgeProcess",
    "RecordUsage",
    "ResizeTerminal",
    "SetManaged",
    "Storage",
    "TrimOutput",
    "Unfinished",
    "WithdrawProcess",
    "WithdrawRun",
]


_READ_BYTES = 1 << 20


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


@dataclass(frozen=True, slots=True, order=True)
class EndedProcess:
    """A process that has ended for good: its current run has ended, its output is complete, and none is to follow.

    Ordered as `Storage.ended` returns them.

    Attributes:
        ended_at_ms: end of the current run.
        handle: handle of the process.
        process_id: id of the process.
    """

    ended_at_ms: int
    handle: int
    process_id: str


class Storage(ABC):
    """A store of processes and their output.

    One `Storage` object belongs to one event loop. One task at a time calls `commit`. Any number of tasks may read,
    also during a commit; they see whole commits only, and every commit that returned before the read began. No read
    leaves a transaction, lock or cursor open when it returns. The cost of a read, `total` included, does not grow with
    the processes or lines that it does not return, with two exceptions: `processes` with several of status, name
    and tags may cost as much as the rarest of these conditions has matches, and `histogram` looks at all output of its
    process.

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

    async def finish_cleanup(self) -> None:  # noqa: B027 - a plug-in may delete at once
        """Wait until what purges and trims have left to be deleted is deleted, and its room is given back."""

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
        an `EXITED` or `LOST`, `WithdrawRun` a `FAILED`, `AddEvent` its own, and `SetManaged` a `STOPPED` of the last
        run with the current time, if the process was to run, and is to stop. `WithdrawProcess` and `PurgeProcess`
        delete the events of the process and add one, `FAILED` or `PURGED`, with the current time. Event ids ascend in
        the order of the changes, so a reader that has seen an event never finds a new one with a smaller id. A change
        that changes nothing adds no event, and neither does an `AddEvent` that equals (in handle, run, type and time)
        one of the last hundred events of its process.

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
    async def ended(
        self,
        *,
        limit: int,
        after: EndedProcess | None = None,
        until_ms: int | None = None,
        own_until_ms: int | None = None,
    ) -> list[EndedProcess]:
        """Return the processes that have ended for good, oldest end first (of equal ends, the lower handle).

        Managed processes whose desired state is `RUNNING` are left out: they may be restarted. So are those that are
        kept always (`Keep.always`).

        Args:
            limit: maximum number of processes (>= 1).
            after: only processes behind this one, which may have been purged since. None: from the first.
            until_ms: only processes with `ended_at_ms` <= this, and none whose start says `Keep.ended_s`.
            own_until_ms: only processes whose start says `Keep.ended_s` (> 0), and whose end is that much older than
                this.
        """

    @abstractmethod
    async def kept_always(self) -> int:
        """Return the number of stored processes that are kept always (`Keep.always`)."""

    @abstractmethod
    async def held_bytes(self, handle: int | None = None) -> int:
        """Return the bytes that a process holds (`Holding.bytes`); None: all but those that are kept always.

        The sum may cost a little for each process.
        """

    @abstractmethod
    async def holdings(self, query: HoldingQuery) -> list[Holding]:
        """Return what processes hold. Queries for the most bytes may cost a little for each process with output."""

    @abstractmethod
    async def trim_point(self, query: TrimQuery) -> TrimPoint | None:
        """Return where to cut the output of a process; None: nothing is to be deleted.

        What is found may be less than was asked for: a call examines a bounded part of the output, so that what follows
        from it is done in a short time. Ask again when it is deleted.
        """

    @abstractmethod
    async def has_trimmed(self, *, handle: int | None = None, since_ms: int | None = None) -> bool:
        """Tell whether output of a process, or of any, that may be as late as `since_ms`, was trimmed."""

    @abstractmethod
    async def trim_events(self, *, before_ms: int, limit: int) -> int:
        """Delete the oldest events, up to the first that is not older than `before_ms`, and return how many.

        The newest event of all stays. `EventPage.trimmed_to` tells the id of the last that was deleted by this call.
        Not called during another call of it.

        Args:
            before_ms: time; an event counts as old as the latest one up to it.
            limit: maximum number of events (>= 1).

        Raises:
            StorageUnavailable: nothing was deleted.
        """

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

        If output behind `after_seq` was trimmed, the first item is a `TrimGap` that says so (`Trimmed.gap`), whatever
        `stream` is. An answer that begins later is not preceded by one.

        Chunks are returned as they were committed, with the parts of each line as separate lines. Only with
        `whole_lines`, they hold whole lines: a part that a later chunk continues is left out, even if the query does
        not select that chunk, and the earlier parts, which may lie before `after_seq` and `since_ms`, are put in front
        of the last one. So the line has the number and the time of its last part.
        `outlast.storage.whole_lines.with_whole_lines` does this to a chunk. Parts that were trimmed are missing.
        """

    @abstractmethod
    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None, before: int | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` (>= 0) lines.

        With `stream`, only lines of that stream count. With `before`, only lines with a smaller number count: the last
        `lines` of these are wanted. Gaps do not count; gaps between and behind these lines are returned with them. If
        fewer lines are stored, `chunks` gives all of them, and tells what was trimmed. A line in parts counts once,
        where its last part is. Those parts of the first of the lines that lie directly before its last one (with
        `stream`: all of its parts) are behind the `after_seq`, too. `outlast.storage.whole_lines.find_tail` finds it.
        """

    async def histogram(self, query: HistogramQuery) -> Histogram:
        """Count the lines of a process by the time at which they were read (`Chunk.ts_ms`).

        Gaps do not count; a line in parts counts once, with its first part that is not trimmed. The buckets lie side by
        side from the first time to the last, of the output or of the query. A plug-in that can tell the times without
        reading the data should do so; this reads all of it.
        """
        found: list[Chunk] = []
        trimmed: Trimmed | None = None
        chunks = ChunkQuery(handle=query.handle, max_bytes=_READ_BYTES)
        while page := await self.chunks(chunks):
            for chunk in page:
                if isinstance(chunk, TrimGap):
                    trimmed = chunk.trimmed
                else:
                    found.append(replace(chunk, data=b""))
            chunks = replace(chunks, after_seq=page[-1].last_seq)
        if not found:
            return empty_histogram(query, trimmed)
        times = [chunk.ts_ms for chunk in found]
        builder = HistogramBuilder(query, min(times), max(times), trimmed)
        for chunk in found:
            if not chunk.gap:
                rest = builder.begins_with_rest(chunk.stream, chunk.continues)
                builder.add(chunk.stream, chunk.ts_ms, chunk.line_count - rest)
        return builder.build()

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

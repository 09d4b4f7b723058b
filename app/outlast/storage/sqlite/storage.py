"""The storage plug-in: one connection that writes, a few that read, and maintenance between commits."""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import unquote_to_bytes

from outlast.model.errors import OutlastError, StorageError, StorageUnavailable
from outlast.model.event import EventFilter, EventPage
from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import ChunkQuery, Position, Stream
from outlast.model.process import Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.retention import Holding, HoldingQuery, TrimPoint, TrimQuery
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.totals import StoreFigures
from outlast.model.usage import RunUsage
from outlast.storage.base import (
    Change,
    Chunk,
    EndedProcess,
    Owner,
    PurgeProcess,
    Storage,
    TrimOutput,
    Unfinished,
    WithdrawProcess,
)
from outlast.storage.sqlite import figures, queries, read, read_events, trimming
from outlast.storage.sqlite.codec import compress_flood
from outlast.storage.sqlite.commit import Compress, commit, stored_position
from outlast.storage.sqlite.connection import Connection, open_reader, open_writer, transact, transact_unsynced
from outlast.storage.sqlite.histogram import count_lines_by_time
from outlast.storage.sqlite.maintenance.checkpoint import write_log_back
from outlast.storage.sqlite.maintenance.cleanup import CleanupTask
from outlast.storage.sqlite.maintenance.compression import CompressionRules
from outlast.storage.sqlite.maintenance.read_leases import ReadLeases
from outlast.storage.sqlite.maintenance.reclamation import count_excess_pages
from outlast.storage.sqlite.maintenance.reserve import Reserve
from outlast.storage.sqlite.maintenance.scheduler import MaintenancePolicy, MaintenanceScheduler
from outlast.storage.sqlite.ownership import StoreLock, lock_store, store_owner, stored_owner
from outlast.storage.sqlite.scan import row_range, scan_output
from outlast.storage.sqlite.sql.client import SqlClient
from outlast.storage.sqlite.store_files import Finding, StoreFiles

_log = logging.getLogger(__name__)

T = TypeVar("T")

READERS = 3
"""Number of connections that read. Each has a thread; more would compete for the same cores."""

_REWRITTEN_BYTES = 1 << 20
"""Bytes of rows that the maintenance rewrites in a step, at most."""

_SCHEME = "sqlite:///"
_FREEING = (PurgeProcess, TrimOutput, WithdrawProcess)


def _is_asked_for(change: Change) -> bool:
    """Tell whether somebody waits for the room that a change frees."""
    return isinstance(change, WithdrawProcess) or (isinstance(change, PurgeProcess) and change.reason is None)


class SqliteStorage(Storage):
    """A store in one SQLite file in WAL mode.

    One connection writes, deletes and checkpoints: SQLite before 3.51.3 can damage the file when two do so
    at the same moment. The others are `query_only`.
    """

    def __init__(self, path: Path, *, durable: bool, compress_after_s: int | None = None) -> None:
        self.path = Path(os.path.realpath(path))  # SQLite puts its log beside the file, not beside a link to it
        self._files = StoreFiles(self.path)
        self._durable = durable
        self._sql = SqlClient(self.path)
        self._leases = ReadLeases()
        compression = None if compress_after_s is None else CompressionRules(after_ms=compress_after_s * 1000)
        self._compress_flood: Compress | None = None if compress_after_s is None else compress_flood
        self._maintenance = MaintenanceScheduler(self, self._leases, MaintenancePolicy(compression=compression))
        self._reserve = Reserve(self.path)
        self._cleanup = CleanupTask(self.path, self._reserve)
        self._commits = 0
        self._no_commits = asyncio.Event()
        self._lock: StoreLock | None = None
        self._writer: Connection | None = None
        self._readers: list[Connection] = []
        self._idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        self._lost: str | None = None

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> Self:
        """Return a storage for `sqlite:///relative/path` or `sqlite:////absolute/path`, with `%23` for `#`."""
        path = url.removeprefix(_SCHEME)
        decoded = os.fsdecode(unquote_to_bytes(path))
        if path == url or not path or path.endswith("/") or any(char in path for char in "?#") or "\0" in decoded:
            raise StorageError(
                f"storage {url!r}: write sqlite:////absolute/path or sqlite:///relative/path, with %3F for ?, %23 for "
                "# and %25 for %"
            )
        return cls(Path(decoded), durable=durable, compress_after_s=compress_after_s)

    async def open(self) -> None:
        """Open or create the file (mode 0600, in a folder that exists)."""
        try:
            await self._connect(create=True)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections, and write the log back."""
        await self._maintenance.stop()
        await self._cleanup.stop()
        self._idle = asyncio.LifoQueue()
        is_open = self._writer is not None
        await self._disconnect()
        if is_open:
            self._reserve.close()

    async def finish_cleanup(self) -> None:
        """Wait for the cleanup task."""
        await self._cleanup.wait_idle()

    async def check(self) -> None:
        """Check that the files are at their places."""
        await self._with_files(lambda: self._open_writer().run(self._files.guard(lambda _db: None)))

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Apply `changes` in one transaction, in one hop to the writer's thread."""
        return await self._with_files(lambda: self._commit(changes))

    async def _with_files(self, write: Callable[[], Awaitable[T]]) -> T:
        """Call `write`. If the files have moved, open them again first, or in a later call if that fails."""
        if self._lost is None:
            try:
                return await write()
            except StorageUnavailable:
                if self._files.finding is not Finding.MOVED:
                    raise
        await self._reopen()
        return await write()

    async def _commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        writer = self._open_writer()
        self._commits += 1

        def store(db: sqlite3.Connection) -> Mapping[str, int]:
            work = partial(
                transact, db, "BEGIN IMMEDIATE", partial(commit, changes=changes, compress=self._compress_flood)
            )
            return self._reserve.commit(changes, work)

        try:
            handles = await writer.run(self._files.guard(store))
        finally:
            self._commits -= 1
            if not self._commits:
                self._no_commits.set()
        self._maintenance.record_commit(changes)
        freeing = [change for change in changes if isinstance(change, _FREEING)]
        if freeing or self._cleanup.is_due():
            self._start_cleanup(gives_all_back=any(_is_asked_for(change) for change in freeing))
        return handles

    async def process(self, handle: int) -> Process | None:
        """Return a process by handle."""
        return await self.read(partial(read.one_process, page=queries.PAGE_BY_HANDLE, parameters={"handle": handle}))

    async def process_by_id(self, process_id: str) -> Process | None:
        """Return a process by ULID."""
        return await self.read(partial(read.one_process, page=queries.PAGE_BY_ID, parameters={"id": process_id}))

    async def process_by_pid(self, pid: int) -> Process | None:
        """Return the newest process one of whose runs had this operating-system pid."""
        return await self.read(partial(read.one_process, page=queries.PAGE_BY_PID, parameters={"pid": pid}))

    async def process_by_key(self, key: str) -> Process | None:
        """Return the process that has this `idempotency_key`."""
        return await self.read(partial(read.one_process, page=queries.PAGE_BY_KEY, parameters={"key": key}))

    async def process_by_name(self, name: str) -> Process | None:
        """Return the newest process that was given this name."""
        return await self.read(partial(read.one_process, page=queries.PAGE_BY_NAME, parameters={"name": name}))

    async def runs(self, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
        """List a process's runs, newest first."""
        return await self.read(partial(read.runs, handle=handle, before_number=before_number, limit=limit))

    async def position(self, handle: int) -> Position:
        """Return how far a process's output is stored."""
        return await self.read(partial(stored_position, handle=handle))

    async def supervised(self) -> list[Process]:
        """List the managed processes that are to run, oldest first."""
        return await self.read(read.supervised)

    async def processes(self, query: ProcessQuery) -> list[Process]:
        """List processes, in the order that the query names."""
        return await self.read(partial(read.processes, query=query))

    async def unfinished(self) -> list[Unfinished]:
        """List the processes that have not ended or whose output is not complete, oldest first."""
        return await self.read(read.unfinished)

    async def resizes(self, handle: int) -> list[Resize]:
        """Return the sizes that a process's terminal was given."""
        return await self.read(partial(read.resizes, handle=handle))

    async def ended(
        self,
        *,
        limit: int,
        after: EndedProcess | None = None,
        until_ms: int | None = None,
        own_until_ms: int | None = None,
    ) -> list[EndedProcess]:
        """List the processes that have ended for good, oldest end first."""
        return await self.read(
            partial(read.ended, limit=limit, after=after, until_ms=until_ms, own_until_ms=own_until_ms)
        )

    async def kept_always(self) -> int:
        """Count the processes that are kept always."""
        return await self.read(trimming.kept_always)

    async def held_bytes(self, handle: int | None = None) -> int:
        """Return the bytes of rows that are not deleted."""
        return await self.read(partial(trimming.held_bytes, handle=handle))

    async def holdings(self, query: HoldingQuery) -> list[Holding]:
        """Return what processes hold."""
        return await self.read(partial(trimming.holdings, query=query))

    async def trim_point(self, query: TrimQuery) -> TrimPoint | None:
        """Return where to cut the output of a process, at the end of a row."""
        return await self.read(partial(trimming.trim_point, query=query))

    async def has_trimmed(self, *, handle: int | None = None, since_ms: int | None = None) -> bool:
        """Tell whether output was trimmed."""
        return await self.read(partial(trimming.has_trimmed, handle=handle, since_ms=since_ms))

    async def trim_events(self, *, before_ms: int, limit: int) -> int:
        """Delete old events in a transaction that is not synced: no answer depends on it."""
        deleted = 0

        def work(db: sqlite3.Connection) -> None:
            nonlocal deleted
            deleted = trimming.trim_events(db, before_ms=before_ms, limit=limit)

        def run(db: sqlite3.Connection) -> None:
            self._reserve.use(partial(transact_unsynced, db, work))

        await self._open_writer().run(self._files.guard(run))
        self._start_cleanup()
        return deleted

    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return what is recorded of a run's resources."""
        return await self.read(partial(read.usage, handle=handle, run=run))

    async def total(self) -> int:
        """Count the stored processes."""
        return await self.read(read.total)

    async def figures(self) -> StoreFigures:
        """Return totals, and the sizes of the files."""
        return await self.read(partial(figures.figures, path=self.path))

    async def chunks(self, query: ChunkQuery) -> list[Chunk]:
        """Read output in order of `first_seq`."""
        return await self.read(partial(read.chunks, query=query))

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None, before: int | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` lines."""
        return await self.read(partial(read.tail, handle=handle, lines=lines, stream=stream, before=before))

    async def histogram(self, query: HistogramQuery) -> Histogram:
        """Count the lines of a process by time, from the columns beside the data."""
        return await self.read(partial(count_lines_by_time, query=query))

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids."""
        return await self.read(partial(read_events.events, after=after, limit=limit, wanted=wanted))

    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` that are wanted."""
        return await self.read(partial(read_events.event_tail, count=count, wanted=wanted))

    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read chunks of all processes."""
        async with self._leases.lock_for_scan():
            page = await self.read(partial(scan_output, query=scan))
            self._leases.release(scan.position)
            rows = row_range(page)
            if rows:
                self._leases.grant(*rows, page.position)
            return page

    async def owner(self) -> Owner | None:
        """Return whom the store belongs to."""
        return await self.read(partial(stored_owner, path=self.path))

    async def claim(self, owner: Owner) -> None:
        """Record whom the store belongs to, and where its file is: a copy has another inode."""
        await self._open_writer().transact("BEGIN IMMEDIATE", partial(store_owner, path=self.path, owner=owner))

    async def sql(self, query: SqlQuery) -> bytes:
        """Run an operator's SQL query, in a process of its own."""
        self._check_readable(Finding.SAME)
        return await self._sql.run_query(query)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a read transaction of its own, which sees one state of the store."""
        self._open_writer()
        self._check_readable(Finding.SAME, Finding.MOVED, Finding.GONE)
        idle = self._idle
        reader = await idle.get()
        try:
            self._files.mend_index()
            return await reader.transact("BEGIN", work)
        finally:
            idle.put_nowait(reader)

    def _check_readable(self, *findings: Finding) -> None:
        """Check that the last commit has found the files as one of `findings` says."""
        problem = self._lost or (self._files.finding not in findings and self._files.problem())
        if problem:
            raise StorageUnavailable(problem)

    async def wait_for_commits(self, timeout_s: float) -> None:
        """Wait until no commit is in progress, at most `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._commits:
                    self._no_commits.clear()
                    await self._no_commits.wait()

    async def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work`, which changes how rows are stored but nothing that can be read, in a write transaction.

        Raises:
            StorageFull: there is no room, or only the reserve.
        """

        def run(db: sqlite3.Connection) -> int:
            self._reserve.spare(partial(transact_unsynced, db, work), _REWRITTEN_BYTES)
            return count_excess_pages(db)

        if await self._open_writer().run(self._files.guard(run)) or self._cleanup.is_due():
            self._start_cleanup()

    async def _connect(self, *, create: bool) -> None:
        """Open all connections, and start the maintenance."""
        self._lock = lock_store(self.path, create=create)
        open_it = partial(open_writer, self.path, durable=self._durable, create=create)
        try:
            self._writer = await Connection.start(open_it)
        except StorageUnavailable:
            if not self._reserve.give_up():
                raise
            self._writer = await Connection.start(open_it)
        else:
            self._reserve.open()
        self._files.open()
        for _ in range(READERS):
            self._readers.append(await Connection.start(partial(open_reader, self.path)))
        for reader in self._readers:
            self._idle.put_nowait(reader)
        self._lost = None
        self._start_cleanup(gives_all_back=True)  # an earlier daemon may have been killed in the middle of it
        await self._maintenance.start()

    async def _disconnect(self) -> None:
        """Close the readers first: the last to close writes the log back, and that must be the writer."""
        readers, self._readers = self._readers, []
        writer, self._writer = self._writer, None
        self._files.mend_index()
        with self._files.left_as_they_are():
            for connection in [*readers, *([writer] if writer else [])]:
                await connection.close()
        self._files.close()
        if self._lock is not None:  # last: the kernel drops SQLite's locks when any descriptor of the file is closed
            self._lock.release()
            self._lock = None

    async def _reopen(self) -> None:
        """Open the files again, because some of them are at their places, but not those that are open.

        Raises:
            StorageUnavailable: that cannot be done now. Nothing can be read or committed until a later attempt.
        """
        await self._maintenance.stop()
        await self._cleanup.stop()
        if self._writer is not None and self._files.has_log_only_here():
            await self._writer.run(write_log_back)
        self._lost = f"the database {self.path} has to be opened again"
        for _ in self._readers:
            await self._idle.get()
        await self._disconnect()
        try:
            await self._connect(create=False)
        except OutlastError as error:
            await self._disconnect()
            self._lost = f"the database {self.path} cannot be opened again: {error}"
            raise StorageUnavailable(self._lost) from error
        _log.warning("the files of the database %s were deleted or moved, and were opened again", self.path)

    def _start_cleanup(self, *, gives_all_back: bool = False) -> None:
        writer = self._open_writer()

        async def run(step: Callable[[sqlite3.Connection], bool]) -> bool:
            return await writer.run(self._files.guard(step, writes_back=True))

        self._cleanup.start(run, gives_all_back=gives_all_back)

    def _open_writer(self) -> Connection:
        if self._writer is None:
            raise StorageUnavailable(self._lost) if self._lost else StorageError(f"the store {self.path} is not open")
        return self._writer

"""The plug-in's face: one writer, a few readers, and upkeep between commits."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from outlast.model.errors import OutlastError, StorageError
from outlast.model.event import EventFilter, EventPage
from outlast.model.output import Position, Stream
from outlast.model.process import Process, ProcessQuery, Run
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.usage import RunUsage
from outlast.storage.base import Change, Chunk, PurgeProcess, Storage, Unfinished, WithdrawProcess
from outlast.storage.sqlite import queries, read, read_events
from outlast.storage.sqlite.commit import commit, stored_position
from outlast.storage.sqlite.connection import Connection, open_reader, open_writer, rewrite
from outlast.storage.sqlite.maintenance.checkpoint import FREE_PAGES_KEPT, Upkeep, free_pages
from outlast.storage.sqlite.maintenance.compression import Rules
from outlast.storage.sqlite.maintenance.read_leases import ReadLeases
from outlast.storage.sqlite.maintenance.scheduler import MaintenanceScheduler, Policy
from outlast.storage.sqlite.scan import rows_of
from outlast.storage.sqlite.scan import scan as scan_output
from outlast.storage.sqlite.sql.client import SqlClient

T = TypeVar("T")

READERS = 3
"""Connections that read. Each has a thread; more would compete for the same cores."""

_SCHEME = "sqlite:///"

_log = logging.getLogger(__name__)


class SqliteStorage(Storage):
    """Keeps everything in one SQLite file in WAL mode.

    One connection writes, deletes and checkpoints: SQLite before 3.51.3 can damage the file when two do so
    at the same moment. The others are `query_only`.
    """

    def __init__(self, path: Path, *, durable: bool, compress_after_s: int = 0) -> None:
        self.path = path
        self._durable = durable
        self._upkeep = Upkeep(path)
        self._asking = SqlClient(path)
        self._places = ReadLeases()
        sealing = Rules(after_ms=compress_after_s * 1000) if compress_after_s else None
        self._background = MaintenanceScheduler(self, self._places, Policy(sealing=sealing))
        self._commits = 0
        self._is_calm = asyncio.Event()
        self._upkeep_task: asyncio.Task[None] | None = None
        self._writer: Connection | None = None
        self._readers: list[Connection] = []
        self._idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int = 0) -> Self:
        """Understand `sqlite:///relative/path` and `sqlite:////absolute/path`."""
        path = url.removeprefix(_SCHEME)
        if path == url or not path or path.endswith("/") or any(char in path for char in "?#\0"):
            raise StorageError(f"storage {url!r}: write sqlite:////absolute/path or sqlite:///relative/path")
        return cls(Path(path), durable=durable, compress_after_s=compress_after_s)

    async def open(self) -> None:
        """Open or create the file (mode 0600, in a folder that exists)."""
        try:
            self._writer = await Connection.start(partial(open_writer, self.path, durable=self._durable))
            for _ in range(READERS):
                self._readers.append(await Connection.start(partial(open_reader, self.path)))
        except BaseException:
            await self.close()
            raise
        for reader in self._readers:
            self._idle.put_nowait(reader)
        self._begin_upkeep()  # an earlier process may have been killed in the middle of its own
        await self._background.start()

    async def close(self) -> None:
        """Close the readers first: the last to close writes the log back, and that must be the writer."""
        await self._background.stop()
        if self._upkeep_task:
            self._upkeep_task.cancel()
            await asyncio.wait([self._upkeep_task])
        self._upkeep_task = None
        readers, self._readers = self._readers, []
        self._idle = asyncio.LifoQueue()
        for reader in readers:
            await reader.close()
        writer, self._writer = self._writer, None
        if writer:
            await writer.close()

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Apply `changes` in one transaction, in one hop to the writer's thread."""
        writer = self._open_writer()
        self._commits += 1
        try:
            handles = await writer.transact("BEGIN IMMEDIATE", partial(commit, changes=changes))
        finally:
            self._commits -= 1
            if not self._commits:
                self._is_calm.set()
        self._background.note(changes)
        if self._upkeep.log_is_long() or any(isinstance(change, PurgeProcess | WithdrawProcess) for change in changes):
            self._begin_upkeep()
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

    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Return what is recorded of a run's resources."""
        return await self.read(partial(read.usage, handle=handle, run=run))

    async def total(self) -> int:
        """Count the stored processes."""
        return await self.read(read.total)

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
        return await self.read(
            partial(
                read.chunks,
                handle=handle,
                after_seq=after_seq,
                max_bytes=max_bytes,
                stream=stream,
                since_ms=since_ms,
                until_ms=until_ms,
            )
        )

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None) -> int:
        """Return the `after_seq` from which `chunks` gives the last `lines` lines."""
        return await self.read(partial(read.tail, handle=handle, lines=lines, stream=stream))

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Read events in the order of their ids."""
        return await self.read(partial(read_events.events, after=after, limit=limit, wanted=wanted))

    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Return the `after` from which `events` gives the last `count` that are wanted."""
        return await self.read(partial(read_events.event_tail, count=count, wanted=wanted))

    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Read chunks of all processes."""
        async with self._places.reading():
            found = await self.read(partial(scan_output, asked=scan))
            self._places.went_on(scan.position)
            rows = rows_of(found)
            if rows:
                self._places.note(*rows, found.position)
            return found

    async def sql(self, question: SqlQuery) -> bytes:
        """Answer a question in SQL, in a process of its own."""
        return await self._asking.ask(question)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a read transaction of its own, which sees one state of the store."""
        self._open_writer()
        idle = self._idle
        reader = await idle.get()
        try:
            return await reader.transact("BEGIN", work)
        finally:
            idle.put_nowait(reader)

    async def calm(self, patience_s: float) -> None:
        """Wait until no commit is under way, or `patience_s` are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._commits:
                    self._is_calm.clear()
                    await self._is_calm.wait()

    async def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Change how things are stored, not what."""

        def run(db: sqlite3.Connection) -> int:
            rewrite(db, work)
            return free_pages(db)

        if await self._open_writer().run(run) > FREE_PAGES_KEPT or self._upkeep.log_is_long():
            self._begin_upkeep()

    def _open_writer(self) -> Connection:
        if self._writer is None:
            raise StorageError(f"the store {self.path} is not open")
        return self._writer

    def _begin_upkeep(self) -> None:
        if self._upkeep_task is None or self._upkeep_task.done():
            self._upkeep_task = asyncio.create_task(self._run_upkeep(self._open_writer()))

    async def _run_upkeep(self, writer: Connection) -> None:
        """Take small steps, between which commits have their turn, until nothing is left to do."""
        try:
            while await writer.run(self._upkeep.step):
                pass
        except OutlastError as error:
            _log.warning("upkeep of %s was put off until later: %s", self.path, error)

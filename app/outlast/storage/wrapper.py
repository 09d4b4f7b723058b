"""A storage around another one, which changes what some of its calls do."""

from collections.abc import Mapping, Sequence

from outlast.model.event import EventFilter, EventPage
from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import Chunk, ChunkQuery, Position, Stream
from outlast.model.process import Process, ProcessQuery, Run
from outlast.model.resize import Resize
from outlast.model.retention import Holding, HoldingQuery, TrimPoint, TrimQuery
from outlast.model.scan import ScanPage, ScanQuery
from outlast.model.sql import SqlQuery
from outlast.model.totals import StoreFigures
from outlast.model.usage import RunUsage
from outlast.storage.base import Change, EndedProcess, Owner, Storage, Unfinished


class StorageWrapper(Storage):
    """A storage that forwards every call to an inner one. Subclasses add `from_url`, and override what they change.

    Attributes:
        inner: the storage that does the work.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    async def before_read(self) -> None:
        """Do nothing. A subclass may wait here, or raise what a read may raise: every read calls this first."""

    async def open(self) -> None:
        """Open the inner storage."""
        await self.inner.open()

    async def close(self) -> None:
        """Close the inner storage."""
        await self.inner.close()

    async def finish_cleanup(self) -> None:
        """Forward `Storage.finish_cleanup`."""
        await self.inner.finish_cleanup()

    async def check(self) -> None:
        """Forward `Storage.check`."""
        await self.inner.check()

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Commit to the inner storage."""
        return await self.inner.commit(changes)

    async def process(self, handle: int) -> Process | None:
        """Forward `Storage.process`."""
        await self.before_read()
        return await self.inner.process(handle)

    async def process_by_id(self, process_id: str) -> Process | None:
        """Forward `Storage.process_by_id`."""
        await self.before_read()
        return await self.inner.process_by_id(process_id)

    async def process_by_pid(self, pid: int) -> Process | None:
        """Forward `Storage.process_by_pid`."""
        await self.before_read()
        return await self.inner.process_by_pid(pid)

    async def process_by_key(self, key: str) -> Process | None:
        """Forward `Storage.process_by_key`."""
        await self.before_read()
        return await self.inner.process_by_key(key)

    async def process_by_name(self, name: str) -> Process | None:
        """Forward `Storage.process_by_name`."""
        await self.before_read()
        return await self.inner.process_by_name(name)

    async def runs(self, handle: int, *, before_number: int | None, limit: int) -> list[Run]:
        """Forward `Storage.runs`."""
        await self.before_read()
        return await self.inner.runs(handle, before_number=before_number, limit=limit)

    async def position(self, handle: int) -> Position:
        """Forward `Storage.position`."""
        await self.before_read()
        return await self.inner.position(handle)

    async def supervised(self) -> list[Process]:
        """Forward `Storage.supervised`."""
        await self.before_read()
        return await self.inner.supervised()

    async def processes(self, query: ProcessQuery) -> list[Process]:
        """Forward `Storage.processes`."""
        await self.before_read()
        return await self.inner.processes(query)

    async def unfinished(self) -> list[Unfinished]:
        """Forward `Storage.unfinished`."""
        await self.before_read()
        return await self.inner.unfinished()

    async def resizes(self, handle: int) -> list[Resize]:
        """Forward `Storage.resizes`."""
        await self.before_read()
        return await self.inner.resizes(handle)

    async def ended(
        self,
        *,
        limit: int,
        after: EndedProcess | None = None,
        until_ms: int | None = None,
        own_until_ms: int | None = None,
    ) -> list[EndedProcess]:
        """Forward `Storage.ended`."""
        await self.before_read()
        return await self.inner.ended(limit=limit, after=after, until_ms=until_ms, own_until_ms=own_until_ms)

    async def kept_always(self) -> int:
        """Forward `Storage.kept_always`."""
        await self.before_read()
        return await self.inner.kept_always()

    async def held_bytes(self, handle: int | None = None) -> int:
        """Forward `Storage.held_bytes`."""
        await self.before_read()
        return await self.inner.held_bytes(handle)

    async def holdings(self, query: HoldingQuery) -> list[Holding]:
        """Forward `Storage.holdings`."""
        await self.before_read()
        return await self.inner.holdings(query)

    async def trim_point(self, query: TrimQuery) -> TrimPoint | None:
        """Forward `Storage.trim_point`."""
        await self.before_read()
        return await self.inner.trim_point(query)

    async def has_trimmed(self, *, handle: int | None = None, since_ms: int | None = None) -> bool:
        """Forward `Storage.has_trimmed`."""
        await self.before_read()
        return await self.inner.has_trimmed(handle=handle, since_ms=since_ms)

    async def trim_events(self, *, before_ms: int, limit: int) -> int:
        """Forward `Storage.trim_events`."""
        return await self.inner.trim_events(before_ms=before_ms, limit=limit)

    async def usage(self, handle: int, run: int) -> RunUsage | None:
        """Forward `Storage.usage`."""
        await self.before_read()
        return await self.inner.usage(handle, run)

    async def total(self) -> int:
        """Forward `Storage.total`."""
        await self.before_read()
        return await self.inner.total()

    async def figures(self) -> StoreFigures:
        """Forward `Storage.figures`."""
        await self.before_read()
        return await self.inner.figures()

    async def chunks(self, query: ChunkQuery) -> list[Chunk]:
        """Forward `Storage.chunks`."""
        await self.before_read()
        return await self.inner.chunks(query)

    async def tail(self, handle: int, lines: int, *, stream: Stream | None = None, before: int | None = None) -> int:
        """Forward `Storage.tail`."""
        await self.before_read()
        return await self.inner.tail(handle, lines, stream=stream, before=before)

    async def histogram(self, query: HistogramQuery) -> Histogram:
        """Forward `Storage.histogram`."""
        await self.before_read()
        return await self.inner.histogram(query)

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        """Forward `Storage.events`."""
        await self.before_read()
        return await self.inner.events(after, limit, wanted)

    async def event_tail(self, count: int, wanted: EventFilter) -> int:
        """Forward `Storage.event_tail`."""
        await self.before_read()
        return await self.inner.event_tail(count, wanted)

    async def scan(self, scan: ScanQuery) -> ScanPage:
        """Forward `Storage.scan`."""
        await self.before_read()
        return await self.inner.scan(scan)

    async def owner(self) -> Owner | None:
        """Forward `Storage.owner`."""
        await self.before_read()
        return await self.inner.owner()

    async def claim(self, owner: Owner) -> None:
        """Forward `Storage.claim`."""
        await self.inner.claim(owner)

    async def sql(self, query: SqlQuery) -> bytes:
        """Forward `Storage.sql`."""
        await self.before_read()
        return await self.inner.sql(query)

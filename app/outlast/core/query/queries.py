"""Queries that take long: searches, SQL, and waits for a line."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from outlast.core.output.line_framer import MAX_LINE_BYTES
from outlast.core.query import wait_conditions
from outlast.core.query.backwards import Select, read_before
from outlast.core.query.matcher import Matcher
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.query.search import Search, SearchPage, SearchQuery
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import Chunk, ChunkQuery
from outlast.model.sql import SqlQuery
from outlast.storage import Storage

T = TypeVar("T")

_WORKERS = 2  # for each kind of query: each takes a processor, and a piece of output in memory


class Queries:
    """The queries of one daemon, limited to a few at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._searches = WorkerPool(_WORKERS, "search")
        self._waits = WorkerPool(_WORKERS, "wait")

    def close(self) -> None:
        """Accept no more queries."""
        self._searches.close()
        self._waits.close()

    async def search(self, query: SearchQuery) -> SearchPage:
        """Search the output of many processes. See `Search`."""
        return await Search(self._storage, self._searches, query).find_page()

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which matches lines with a regular expression, from a thread of the searches.

        Raises:
            OutOfResources: the thread cannot be started now.
        """
        with await self._searches.acquire() as lease:
            return await lease.run_in_thread(work)

    def read_before(
        self, handle: int, where: OutputQuery, before: int, limit: int | None, select: Select | None
    ) -> AsyncGenerator[Chunk, None]:
        """Read a page of a process's output backwards. See `outlast.core.query.backwards.read_before`."""
        return read_before(self._storage, handle, where, before, limit, select)

    async def wait_for_line(
        self, chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher, *, seen_seq: int = 0
    ) -> wait_conditions.Line | None:
        """Wait for a line that matches. See `wait_conditions.wait_for_line`; `seen_seq`: see `ChunkQuery`."""
        earlier_parts = partial(self._earlier_parts, seen_seq=seen_seq)
        return await wait_conditions.wait_for_line(chunks, matcher, self._waits, earlier_parts)

    async def _earlier_parts(self, chunk: Chunk, seen_seq: int) -> bytes:
        """Return the parts before `chunk` of the line that it continues."""
        line: list[bytes] = []
        query = ChunkQuery(handle=chunk.handle, stream=chunk.stream, max_bytes=MAX_LINE_BYTES)
        after_seq = chunk.continues - 1
        while parts := await self._storage.chunks(replace(query, after_seq=after_seq)):
            for part in parts:
                if part.first_seq >= chunk.first_seq:
                    return b"".join(line)
                line.append(part.data)
                if part.last_seq == seen_seq:
                    line.clear()
            after_seq = parts[-1].last_seq
        return b"".join(line)  # the chunk itself is not stored

    async def histogram(self, query: HistogramQuery) -> Histogram:
        """Count a process's lines by time. See `Storage.histogram`."""
        return await self._storage.histogram(query)

    async def run_sql(self, query: SqlQuery) -> bytes:
        """Run an SQL query. See `Storage.sql`."""
        return await self._storage.sql(query)

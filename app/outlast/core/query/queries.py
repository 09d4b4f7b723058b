"""Queries that take long: searches, SQL, and waits for a line."""

from collections.abc import AsyncGenerator

from outlast.core.query import wait_conditions
from outlast.core.query.matcher import Matcher
from outlast.core.query.search import Search, SearchPage, SearchQuery
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.output import Chunk
from outlast.model.sql import SqlQuery
from outlast.storage import Storage

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

    async def wait_for_line(
        self, chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher
    ) -> wait_conditions.Line | None:
        """Wait for a line that matches. See `wait_conditions.wait_for_line`."""
        return await wait_conditions.wait_for_line(chunks, matcher, self._waits)

    async def run_sql(self, query: SqlQuery) -> bytes:
        """Run an SQL query. See `Storage.sql`."""
        return await self._storage.sql(query)

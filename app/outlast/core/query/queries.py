"""What may be asked of all that is stored: searches, and operators' SQL; and waits for a line."""

from collections.abc import AsyncGenerator

from outlast.core.query import wait_conditions
from outlast.core.query.matcher import Matcher
from outlast.core.query.search import Search, SearchPage, SearchQuery
from outlast.core.query.worker_pool import WorkerPool
from outlast.model.output import Chunk
from outlast.model.sql import SqlQuery
from outlast.storage import Storage

_AT_ONCE = 2  # of each kind: a piece of output in memory and a processor, as long as it is looked at


class Queries:
    """Asks the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._searches = WorkerPool(_AT_ONCE, "search")
        self._waits = WorkerPool(_AT_ONCE, "wait")

    def close(self) -> None:
        """Take no more questions."""
        self._searches.close()
        self._waits.close()

    async def search(self, query: SearchQuery) -> SearchPage:
        """Search the output of many processes. See `Search`."""
        return await Search(self._storage, self._searches, query).run()

    async def line(self, chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher) -> wait_conditions.Line | None:
        """Wait for a line. See `waiting.line`."""
        return await wait_conditions.line(chunks, matcher, self._waits)

    async def sql(self, question: SqlQuery) -> bytes:
        """Answer a question in SQL. See `Storage.sql`."""
        return await self._storage.sql(question)

"""What may be asked of all that is stored: searches, and operators' SQL; and waits for a line."""

from collections.abc import AsyncGenerator

from app.core import waiting
from app.core.looking import Looking
from app.core.matching import Matcher
from app.core.search import Search, SearchPage, SearchQuery
from app.model.output import Chunk
from app.model.sql import SqlQuestion
from app.storage import Storage

_AT_ONCE = 2  # of each kind: a piece of output in memory and a processor, as long as it is looked at


class Questions:
    """Asks the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._searches = Looking(_AT_ONCE, "search")
        self._waits = Looking(_AT_ONCE, "wait")

    def close(self) -> None:
        """Take no more questions."""
        self._searches.close()
        self._waits.close()

    async def search(self, query: SearchQuery) -> SearchPage:
        """Search the output of many processes. See `Search`."""
        return await Search(self._storage, self._searches, query).run()

    async def line(self, chunks: AsyncGenerator[Chunk | None, None], matcher: Matcher) -> waiting.Line | None:
        """Wait for a line. See `waiting.line`."""
        return await waiting.line(chunks, matcher, self._waits)

    async def sql(self, question: SqlQuestion) -> bytes:
        """Answer a question in SQL. See `Storage.sql`."""
        return await self._storage.sql(question)

"""What may be asked of all that is stored: searches, and operators' SQL."""

from app.core.search import Search, SearchPage, SearchQuery
from app.model.sql import SqlQuestion
from app.storage import Storage


class Questions:
    """Asks the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def search(self, query: SearchQuery) -> SearchPage:
        """Search the output of many processes. See `Search`."""
        return await Search(self._storage, query).run()

    async def sql(self, question: SqlQuestion) -> bytes:
        """Answer a question in SQL. See `Storage.sql`."""
        return await self._storage.sql(question)

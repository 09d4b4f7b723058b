"""Makes the storages that these tests are about."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.storage.base import Change
from app.storage.registry import storage_from_url
from app.storage.sqlite import SqliteStorage
from app.storage.sqlite.background import Background, Policy
from app.storage.sqlite.places import KEPT_S, Places


def sqlite_storage(path: Path, *, durable: bool = True) -> SqliteStorage:
    storage = storage_from_url(f"sqlite:///{path}", durable=durable)
    assert isinstance(storage, SqliteStorage)
    return storage


class EagerStorage(SqliteStorage):
    """Merges whatever can be merged, as soon as it is committed."""

    def __init__(self, path: Path, *, durable: bool = True, kept_s: float = KEPT_S) -> None:
        super().__init__(path, durable=durable)
        self._places = Places(kept_s)
        self._background = Background(self, self._places, Policy(due_rows=1, least_rows=2, patience_s=0))

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        handles = await super().commit(changes)
        await self._background.settled()
        return handles

"""Makes the storages that these tests are about."""

from pathlib import Path

from app.storage.registry import storage_from_url
from app.storage.sqlite import SqliteStorage


def sqlite_storage(path: Path, *, durable: bool = True) -> SqliteStorage:
    storage = storage_from_url(f"sqlite:///{path}", durable=durable)
    assert isinstance(storage, SqliteStorage)
    return storage

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.registry import storage_from_url
from app.storage.sqlite import SqliteStorage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outlast.db"


def sqlite_storage(path: Path, *, durable: bool = True) -> SqliteStorage:
    storage = storage_from_url(f"sqlite:///{path}", durable=durable)
    assert isinstance(storage, SqliteStorage)
    return storage


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    storage = sqlite_storage(path)
    await storage.open()
    yield storage
    await storage.close()

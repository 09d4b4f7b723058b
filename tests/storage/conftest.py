from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlast.storage.sqlite import SqliteStorage
from tests.storage.stores import sqlite_storage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outlast.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    storage = sqlite_storage(path)
    await storage.open()
    yield storage
    await storage.close()

"""A SQLite store has one process at a time that opens it to write, and remembers its state folder."""

import os
import shutil
from pathlib import Path

import pytest

from outlast.model.errors import AlreadyServed
from outlast.storage import Owner
from outlast.storage.sqlite import SqliteStorage


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["same path", "symlink", "hard link"])
async def test_a_store_is_opened_once(path: Path, link: object) -> None:
    first = SqliteStorage(path, durable=False)
    await first.open()
    other = path
    if callable(link):
        other = path.with_name("alias.db")
        link(path, other)
    second = SqliteStorage(other, durable=False)
    with pytest.raises(AlreadyServed, match=f"pid {os.getpid()}.* serves the store {os.path.realpath(other)}"):
        await second.open()
    assert await first.total() == 0
    await first.close()
    await second.open()
    await second.close()


async def test_a_store_remembers_its_owner(path: Path) -> None:
    storage = SqliteStorage(path, durable=True)
    await storage.open()
    assert await storage.owner() is None
    await storage.claim(Owner("1", "/one"))
    await storage.claim(Owner("2", "/two"))
    await storage.close()
    for where, is_copied in ((path, False), (Path(shutil.copy(path, path.with_name("copy.db"))), True)):
        storage = SqliteStorage(where, durable=True)
        await storage.open()
        assert await storage.owner() == Owner("2", "/two", is_copied=is_copied)
        await storage.claim(Owner("3", "/three"))
        assert await storage.owner() == Owner("3", "/three")
        await storage.close()

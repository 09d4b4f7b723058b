"""Conformance tests of the sizes of terminals."""

from pathlib import Path

import pytest

from outlast.model.resize import Resize
from outlast.storage.base import PurgeProcess, ResizeTerminal, Storage
from outlast.testing.storage.samples import EPOCH_MS, added, end_of
from outlast.testing.storage.suite import StorageSuite


def _size(n: int) -> Resize:
    return Resize(ts_ms=EPOCH_MS + n, rows=20 + n, cols=500 - n)


class TerminalConformance(StorageSuite):
    """The contract's promises about the sizes of terminals."""

    async def test_sizes_come_back_in_order(self, storage: Storage) -> None:
        """Sizes are in the order of their times, also if the clock was set back, and each process has its own."""
        first, second = await added(storage), await added(storage)
        assert await storage.resizes(first) == []
        await storage.commit([ResizeTerminal(first, _size(2)), ResizeTerminal(second, _size(3))])
        await storage.commit([end_of(first), ResizeTerminal(first, _size(1))])
        assert await storage.resizes(first) == [_size(1), _size(2)]
        assert await storage.resizes(second) == [_size(3)]

    async def test_sizes_may_be_repeated(self, storage: Storage) -> None:
        """A batch that is committed again changes nothing; of two sizes at one time, the later stays."""
        handle = await added(storage)
        later = Resize(ts_ms=_size(1).ts_ms, rows=1, cols=2)
        for _ in range(2):
            await storage.commit([ResizeTerminal(handle, size) for size in (_size(1), later, _size(2))])
        assert await storage.resizes(handle) == [later, _size(2)]

    async def test_sizes_go_with_their_process(self, storage: Storage) -> None:
        """Sizes of a process that is not stored are ignored, and a purge deletes them."""
        handle = await added(storage)
        await storage.commit([ResizeTerminal(handle, _size(1)), ResizeTerminal(handle + 1, _size(1))])
        await storage.commit([PurgeProcess(handle), ResizeTerminal(handle, _size(2))])
        assert await storage.resizes(handle) == []
        assert await storage.resizes(await added(storage)) == []

    async def test_sizes_survive_reopening(self, tmp_path: Path) -> None:
        """Sizes are there after the storage was closed and opened."""
        if not self.persistent:
            pytest.skip("nothing is kept")
        storage = self.make_storage(tmp_path)
        await storage.open()
        handle = await added(storage)
        await storage.commit([ResizeTerminal(handle, _size(1))])
        await storage.close()
        storage = self.make_storage(tmp_path)
        await storage.open()
        assert await storage.resizes(handle) == [_size(1)]
        await storage.close()

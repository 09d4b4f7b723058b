"""A full disk: SQLite finds no space for the log, the log's index, or a checkpoint into the database."""

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outlast.model.errors import StorageFull, StorageUnavailable
from outlast.model.managed import ManagedState
from outlast.model.output import ChunkQuery
from outlast.storage.base import Change, PurgeProcess, SetManaged
from outlast.storage.sqlite import SqliteStorage
from outlast.storage.sqlite.connection import WAL_LIMIT_BYTES
from outlast.storage.sqlite.maintenance.reserve import RESERVE_BYTES, Reserve
from outlast.testing.storage.samples import Output, added, end_of, new_process
from tests.storage.stores import sqlite_storage
from tests.support.disk import Disk, mounted
from tests.support.waiting import eventually

_KIB = 1024
_MOST_PAGES = 256


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", 160) as disk:
        yield disk


@pytest.fixture(params=[8, 16, 32, 160], ids=lambda mib: f"{mib}MiB")
def any_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", request.param) as disk:
        yield disk


@pytest.fixture
def long_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the log grow to its limit, as on a disk that something else fills at once."""
    monkeypatch.setattr(Reserve, "free_bytes", lambda _self: 1 << 40)


def _wal_bytes(storage: SqliteStorage) -> int:
    return Path(f"{storage.path}-wal").stat().st_size


async def _holds_all(storage: SqliteStorage, output: Output) -> None:
    chunks = await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 30))
    assert await storage.position(output.handle) == output.position
    assert [chunk.first_seq for chunk in chunks] == list(range(1, len(chunks) + 1))
    with closing(sqlite3.connect(storage.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def _commit_with_ever_more_room(storage: SqliteStorage, disk: Disk, output: Output) -> set[str]:
    """Fill the disk, then free a page at a time until a commit succeeds; return the errors before that."""
    disk.fill()
    chunk = output.chunk(b"x" * 200 * _KIB + b"\n")
    seen = set()
    for _ in range(_MOST_PAGES):
        try:
            await storage.commit([chunk])
        except StorageUnavailable as error:
            seen.update(re.findall(r"\((SQLITE_\w+)\)", str(error)))
            disk.give_back(1)
        else:
            return seen
    raise AssertionError(seen)


@pytest.mark.usefixtures("long_log")
async def test_a_log_that_cannot_grow_loses_nothing(disk: Disk) -> None:
    """The index (`-shm`) grows by 32 KiB for every 4096 frames of the log."""
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    index = Path(f"{storage.path}-shm")
    try:
        output = Output(await added(storage))
        before = index.stat().st_size
        while _wal_bytes(storage) < WAL_LIMIT_BYTES - 600 * _KIB:
            await storage.commit([output.chunk(b"x" * 60 * _KIB + b"\n")])
        seen: set[str] = set()
        while index.stat().st_size == before:
            seen |= await _commit_with_ever_more_room(storage, disk, output)
        assert seen == {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}
        disk.make_room()
        await _holds_all(storage, output)
    finally:
        await storage.close()


@pytest.mark.usefixtures("long_log")
async def test_a_log_that_cannot_be_written_back_loses_nothing(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    try:
        output = Output(await added(storage))
        while _wal_bytes(storage) < WAL_LIMIT_BYTES - 200 * _KIB:
            await storage.commit([output.chunk(b"x" * 60 * _KIB + b"\n")])
        disk.fill()
        disk.give_back(160)  # enough for the log to reach its limit, too little for the database
        with caplog.at_level(logging.WARNING):
            while _wal_bytes(storage) <= WAL_LIMIT_BYTES:
                await storage.commit([output.chunk(b"x" * 60 * _KIB + b"\n")])
            await eventually(lambda: "is retried later" in caplog.text)
        assert "SQLITE_FULL" in caplog.text
        assert storage.path.stat().st_size < 2048 * _KIB
        await _holds_all(storage, output)
        disk.make_room()
        await storage.commit([output.chunk(b"more\n")])
        await eventually(lambda: storage.path.stat().st_size > 16 * 1024 * _KIB)
        await _holds_all(storage, output)
    finally:
        await storage.close()


async def test_a_store_that_cannot_be_opened_on_a_full_disk_is_unavailable(disk: Disk) -> None:
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"kept\n")])
    await storage.close()
    assert not Path(f"{storage.path}-shm").exists()
    Path(f"{storage.path}-reserve").unlink()
    disk.fill()
    with pytest.raises(StorageUnavailable):
        await storage.open()
    disk.make_room()
    await storage.open()
    try:
        await storage.commit([output.chunk(b"more\n")])
        await _holds_all(storage, output)
    finally:
        await storage.close()


async def _fill_with_output(storage: SqliteStorage, outputs: list[Output]) -> None:
    """Commit output of several processes in turn, in ever smaller batches, until the disk is full."""
    for size in (500, 100, 20, 4):
        with contextlib.suppress(StorageFull):
            while True:
                await storage.commit([output.chunk(b"x" * size * _KIB + b"\n") for output in outputs])
        for output in outputs:
            output.position = await storage.position(output.handle)


def _free_bytes(disk: Disk) -> int:
    found = os.statvfs(disk.path)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("daemons", [1, 2])
async def test_purges_free_a_disk_that_output_has_filled(any_disk: Disk, daemons: int) -> None:
    disk = any_disk
    whole = _free_bytes(disk)
    reserve = min(whole // 4, RESERVE_BYTES)
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    try:
        outputs = [Output(await added(storage)) for _ in range(6)]
        await _fill_with_output(storage, outputs)
        if daemons > 1:
            await storage.close()
            disk.fill()
            await storage.open()
        sizes = [storage.path.stat().st_size]
        for output in outputs[:-1]:
            await storage.commit([end_of(output.handle)])
            await storage.commit([PurgeProcess(output.handle)])
            await storage._cleanup.wait_idle()
            sizes.append(storage.path.stat().st_size)
        assert sizes == sorted(set(sizes), reverse=True)
        assert sizes[-1] < sizes[0] / 2
        assert _wal_bytes(storage) < reserve // 4
        if daemons > 1:
            disk.make_room()
        await storage.commit([outputs[-1].chunk(b"more\n")])
        assert Path(f"{storage.path}-reserve").stat().st_size == reserve
        assert _free_bytes(disk) > whole * 2 // 5
    finally:
        await storage.close()


async def test_output_does_not_take_what_is_reserved_for_purges(disk: Disk) -> None:
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    try:
        output = Output(await added(storage))
        await _fill_with_output(storage, [output])
        output.position = await storage.position(output.handle)
        disk.fill()
        await storage.commit([end_of(output.handle)])  # takes the reserve
        refused: list[list[Change]] = [[], [output.chunk(b"x\n")], [new_process()]]
        for changes in refused:
            with pytest.raises(StorageFull, match="17 MiB are free"):
                await storage.commit(changes)
            output.position = await storage.position(output.handle)
        await storage.commit([SetManaged(output.handle, ManagedState()), PurgeProcess(output.handle)])
        await storage._cleanup.wait_idle()
        disk.make_room()
        await storage.commit([new_process()])
        assert Path(f"{storage.path}-reserve").stat().st_size == RESERVE_BYTES
    finally:
        await storage.close()


async def test_maintenance_does_not_take_what_is_reserved_for_purges(disk: Disk) -> None:
    storage = sqlite_storage(disk.path / "outlast.db")
    await storage.open()
    try:
        outputs = [Output(await added(storage)) for _ in range(2)]
        await _fill_with_output(storage, outputs)
        disk.fill()
        await storage.commit([end_of(outputs[0].handle)])  # takes the reserve
        with closing(sqlite3.connect(storage.path)) as db:
            rows = [row for (row,) in db.execute("SELECT id FROM output_chunk WHERE length(data) > 1000")]

        def merge(db: sqlite3.Connection) -> None:
            for row in rows[:10]:
                db.execute("UPDATE output_chunk SET data = randomblob(length(data)) WHERE id = ?", (row,))

        await storage._cleanup.wait_idle()
        free = _free_bytes(disk)
        with pytest.raises(StorageFull, match="17 MiB are free"):
            await storage.rewrite(merge)
        assert _free_bytes(disk) == free > RESERVE_BYTES // 2
        await storage.commit([PurgeProcess(outputs[0].handle)])
        await storage._cleanup.wait_idle()
        assert _free_bytes(disk) > free
    finally:
        await storage.close()

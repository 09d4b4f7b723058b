"""The files of an open store are deleted, moved, replaced or truncated: nothing is committed into a lost file."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.plain_sql import register_sqlar_uncompress
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.model.errors import StorageUnavailable
from outlast.model.output import ChunkQuery
from outlast.model.sql import SqlQuery
from outlast.storage.sqlite import SqliteStorage
from outlast.storage.sqlite import storage as storage_module
from outlast.storage.sqlite.commit import commit
from outlast.testing.storage.samples import Output, added
from tests.storage.stores import sqlite_storage
from tests.support.waiting import DEADLINE_S, eventually


@pytest.fixture
async def output(storage: SqliteStorage) -> Output:
    """Return the output of a process that has written a line."""
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"first\n")])
    return output


def _beside(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")]


def _back_up(path: Path, copy: Path) -> Path:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


async def _refuses(storage: SqliteStorage, output: Output, match: str) -> None:
    position = output.position
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=match):
            await storage.commit([output.chunk(b"lost\n")])
        output.position = position
        with pytest.raises(StorageUnavailable, match=match):
            await storage.commit([])
        with pytest.raises(StorageUnavailable, match=match):
            await storage.sql(SqlQuery(query="SELECT 1"))


async def _goes_on(storage: SqliteStorage, output: Output) -> None:
    """Check that all that was committed is there, in the files that another program finds, too."""
    await storage.commit([output.chunk(b"next\n")])
    chunks = await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 20))
    assert [chunk.data for chunk in chunks] == [b"first\n", b"next\n"]
    with closing(sqlite3.connect(storage.path)) as db:
        assert db.execute("SELECT line FROM output_lines_portable ORDER BY seq").fetchall() == [("first",), ("next",)]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_database_that_is_moved_away_and_back_is_taken_up_again(
    storage: SqliteStorage, output: Output, tmp_path: Path
) -> None:
    aside = storage.path.rename(tmp_path / "aside")
    await _refuses(storage, output, "is gone: move it back")
    assert not storage.path.exists()
    chunks = await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1))
    assert [chunk.data for chunk in chunks] == [b"first\n"]  # reading still works
    aside.rename(storage.path)
    await _goes_on(storage, output)


async def test_a_folder_that_is_moved_away_and_back_is_taken_up_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    storage = sqlite_storage(folder / "outlast.db")
    await storage.open()
    try:
        output = Output(await added(storage))
        await storage.commit([output.chunk(b"first\n")])
        folder.rename(tmp_path / "aside")
        await _refuses(storage, output, "is gone")
        (tmp_path / "aside").rename(folder)
        await _goes_on(storage, output)
    finally:
        await storage.close()


async def test_a_folder_that_was_on_another_disk_is_taken_up_again(
    storage: SqliteStorage, output: Output, tmp_path: Path
) -> None:
    """`mv` to another disk and back makes new files with the times of the old ones."""
    for file in _beside(storage.path):
        shutil.copy2(file, tmp_path / "copy")
        (tmp_path / "copy").rename(file)
    await _goes_on(storage, output)


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
async def test_a_deleted_log_is_made_anew(storage: SqliteStorage, output: Output, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        Path(f"{storage.path}{suffix}").unlink()
    await _goes_on(storage, output)


async def test_opening_again_is_tried_until_it_succeeds(storage: SqliteStorage, output: Output) -> None:
    log = Path(f"{storage.path}-wal")
    log.unlink()
    log.mkdir()
    await _refuses(storage, output, "cannot be opened again")
    with pytest.raises(StorageUnavailable, match="cannot be opened again"):
        await storage.total()
    log.rmdir()
    await _goes_on(storage, output)


_TRUNCATED = """
import asyncio, os, sys
from pathlib import Path
from outlast.model.output import ChunkQuery
from outlast.testing.storage.samples import Output, added
from tests.storage.stores import sqlite_storage

async def main(path, size, first):
    storage = sqlite_storage(Path(path))
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"first\\n")])
    os.truncate(path + "-shm", int(size))
    if first == "read":
        assert await storage.total() == 1
    if first == "commit":
        await storage.commit([output.chunk(b"next\\n")])
    if first == "close":
        await storage.close()
        await storage.open()
    if first != "commit":
        await storage.commit([output.chunk(b"next\\n")])
    chunks = await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=100))
    assert [chunk.data for chunk in chunks] == [b"first\\n", b"next\\n"]
    await storage.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("first", ["read", "commit", "close"])
@pytest.mark.parametrize("size", [0, 100, 4096])
def test_an_index_that_is_truncated_ends_no_program(path: Path, size: int, first: str) -> None:
    """In a program of its own, which the kernel would end by SIGBUS."""
    argv = [sys.executable, "-c", _TRUNCATED, str(path), str(size), first]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=root, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(path)) as db:
        register_sqlar_uncompress(db)
        assert db.execute("SELECT line FROM output_lines ORDER BY seq").fetchall() == [("first",), ("next",)]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_while_it_is_opened_again_reads_are_refused_and_followers_wait(
    storage: SqliteStorage, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, gate = storage._connect, asyncio.Event()

    async def wait_and_connect(*, create: bool) -> None:
        await gate.wait()
        await connect(create=create)

    monkeypatch.setattr(storage, "_connect", wait_and_connect)
    batches = Cursor(storage, ChunkCache(), output.handle, None, OutputQuery()).follow(0.01)
    Path(f"{storage.path}-wal").unlink()
    commit = asyncio.create_task(storage.commit([output.chunk(b"next\n")]))

    async def is_refused() -> bool:
        with contextlib.suppress(StorageUnavailable):
            await storage.total()
            return False
        return True

    await eventually(is_refused)  # and not made to wait: the API answers 503 with Retry-After
    assert await anext(batches) is None
    gate.set()
    await commit
    found = [chunk.data async for batch in batches for chunk in batch or ()]
    assert found == [b"first\n", b"next\n"]


def _truncate(path: Path, _backup: Path) -> None:
    os.truncate(path, 0)


def _overwrite(path: Path, backup: Path) -> None:
    shutil.copyfile(backup, path)


def _replace(path: Path, backup: Path) -> None:
    backup.rename(path)


def _truncate_log(path: Path, _backup: Path) -> None:
    os.truncate(f"{path}-wal", 0)


def _restore_by_the_book(path: Path, backup: Path) -> None:
    for file in _beside(path):
        file.unlink()
    shutil.copyfile(backup, path)


CHANGES = [_truncate, _overwrite, _replace, _truncate_log, _restore_by_the_book]


@pytest.fixture
async def changed(path: Path, tmp_path: Path) -> AsyncIterator[tuple[SqliteStorage, Output, Path]]:
    """Give an open store with output that its backup lacks, and in part is in the log only."""
    storage = sqlite_storage(path)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"old\n")])
    backup = _back_up(path, tmp_path / "backup")
    await storage.commit([output.chunk(b"x" * 100_000 + b"\n")])
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    await storage.commit([output.chunk(b"y" * 100_000 + b"\n")])
    yield storage, output, backup
    await storage.close()


@pytest.mark.parametrize("change", CHANGES)
async def test_another_content_is_neither_used_nor_changed(
    changed: tuple[SqliteStorage, Output, Path], change: Callable[[Path, Path], None]
) -> None:
    storage, output, backup = changed
    change(storage.path, backup)
    content = storage.path.read_bytes()
    await _refuses(storage, output, "replaced, overwritten or truncated: end the daemon")
    with pytest.raises(StorageUnavailable, match="replaced"):
        await storage.total()
    await storage.close()
    assert storage.path.read_bytes() == content


async def test_a_log_that_another_program_writes_back_is_no_harm(storage: SqliteStorage, output: Output) -> None:
    for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
        with closing(sqlite3.connect(storage.path)) as db:
            db.execute(f"PRAGMA wal_checkpoint({mode})")
        await storage.commit([])
    await _goes_on(storage, output)


async def test_a_database_that_is_truncated_behind_a_log_that_was_written_back_is_refused(
    storage: SqliteStorage, output: Output
) -> None:
    with closing(sqlite3.connect(storage.path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        os.truncate(storage.path, 0)
        await _refuses(storage, output, "replaced, overwritten or truncated: end the daemon")


async def test_a_commit_into_a_file_that_is_deleted_meanwhile_is_not_answered(
    storage: SqliteStorage, output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_and_lose(db: sqlite3.Connection, changes: list[object], **given: Any) -> object:
        storage.path.rename(tmp_path / "aside")
        return commit(db, changes, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(storage_module, "commit", commit_and_lose)
    next_chunk = output.chunk(b"next\n")
    with pytest.raises(StorageUnavailable, match="were changed while"):
        await storage.commit([next_chunk])
    monkeypatch.undo()
    with pytest.raises(StorageUnavailable, match="is gone"):
        await storage.commit([next_chunk])
    (tmp_path / "aside").rename(storage.path)
    assert await storage.commit([next_chunk]) == {}


async def test_the_log_of_a_linked_database_is_watched(tmp_path: Path) -> None:
    """SQLite puts the log beside the database, not beside the link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "outlast.db").symlink_to(tmp_path / "disk" / "outlast.db")
    storage = sqlite_storage(tmp_path / "outlast.db")
    await storage.open()
    try:
        output = Output(await added(storage))
        await storage.commit([output.chunk(b"first\n")])
        assert storage.path.name == "outlast.db"
        Path(f"{storage.path}-wal").unlink()
        await _goes_on(storage, output)
    finally:
        await storage.close()

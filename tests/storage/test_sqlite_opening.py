"""Opening: files are created, rejected and left unchanged, or migrated."""

import os
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from outlast.model.errors import StorageError, StorageUnavailable
from outlast.model.output import ChunkQuery
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import SqliteStorage, connection, migrate
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES
from outlast.testing.storage.samples import Output, added
from tests.storage.stores import sqlite_storage


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:outlast.db",
        "sqlite:/outlast.db",
        "sqlite://host/outlast.db",
        "sqlite:///folder/",
        "sqlite:///outlast.db?mode=ro",
        "memory:elsewhere",
        "nosuch:",
        "outlast.db",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="storage"):
        storage_from_url(url)


def test_three_slashes_are_relative_four_absolute() -> None:
    assert SqliteStorage.from_url("sqlite:///a b/%3F%25.db", durable=True).path == Path("a b/?%.db").absolute()
    assert SqliteStorage.from_url("sqlite:////a/b.db", durable=True).path == Path("/a/b.db")


async def test_a_path_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "ü b%41&mode=ro.db"
    storage = sqlite_storage(path)
    await storage.open()
    await added(storage)
    await storage.close()
    assert sorted(_modes(tmp_path)) == [path.name, f"{path.name}-reserve"]


def _modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def test_files_are_for_their_owner_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        storage = sqlite_storage(path)
        await storage.open()
        await added(storage)
    finally:
        os.umask(umask)
    modes = _modes(path.parent)
    await storage.close()
    assert modes == dict.fromkeys(("outlast.db", "outlast.db-reserve", "outlast.db-wal", "outlast.db-shm"), 0o600)


def _pragmas(db: sqlite3.Connection, names: dict[str, object]) -> dict[str, object]:
    return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_each_connection_has_its_pragmas(path: Path, durable: bool, synchronous: int) -> None:
    storage = sqlite_storage(path, durable=durable)
    await storage.open()
    try:
        assert storage._writer is not None
        links: list[tuple[connection.Connection, dict[str, object]]] = [
            (
                storage._writer,
                {
                    "journal_mode": "wal",
                    "synchronous": synchronous,
                    "page_size": PAGE_SIZE_BYTES,
                    "auto_vacuum": 2,
                    "wal_autocheckpoint": 0,
                    "journal_size_limit": connection.WAL_LIMIT_BYTES,
                    "secure_delete": 0,
                    "busy_timeout": connection.BUSY_TIMEOUT_MS,
                    "query_only": 0,
                },
            ),
            (storage._readers[0], {"query_only": 1, "busy_timeout": connection.BUSY_TIMEOUT_MS}),
        ]
        for link, expected in links:
            found = await link.run(partial(_pragmas, names=expected))
            assert found == expected
    finally:
        await storage.close()


async def test_tables_are_strict(storage: SqliteStorage) -> None:
    with closing(sqlite3.connect(storage.path)) as db:
        tables = db.execute(
            "SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        names: tuple[str, ...] = ("process", "run", "run_usage", "tag", "output_chunk", "purged", "event", "managed")
        names += (
            "tally",
            "minute",
            "unmerged",
            "compressed_upto",
            "owner",
            "keep",
            "trimmed",
            "holding",
            "events_trimmed",
            "total",
            "terminal_size",
        )
        assert set(tables) == {(name, 1) for name in names}


def _open_files(folder: Path) -> list[Path]:
    """Return the files of the folder that this process holds open."""
    links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    targets = [link.readlink() for link in links if link.is_symlink()]
    return [target for target in targets if folder in target.parents]


def _content(path: Path) -> bytes:
    return path.read_bytes()


async def _refused(path: Path, error: type[Exception], match: str) -> None:
    """Check that opening fails, does not change the file, and leaves neither a thread nor a descriptor behind."""
    before = _content(path)
    threads = threading.active_count()
    with pytest.raises(error, match=match):
        await sqlite_storage(path).open()
    assert _content(path) == before
    assert threading.active_count() == threads
    assert _open_files(path.parent) == []


async def test_a_newer_schema_is_refused(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    await added(storage)
    await storage.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    await _refused(path, StorageError, "schema version 999.*upgrade")


async def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    await _refused(path, StorageError, "another program")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    _write(path, b"a text file that is longer than a database header\n" * 100)
    await _refused(path, StorageError, "not a database")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(48 * PAGE_SIZE_BYTES)  # behind the schema
        file.write(b"\xa5" * (4 * PAGE_SIZE_BYTES))


async def _damaged(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"x" * 1000 + b"\n") for _ in range(500)])
    await storage.close()
    _overwrite(path)


async def test_a_damaged_file_is_refused(path: Path) -> None:
    await _damaged(path)
    await _refused(path, StorageError, "damaged|malformed")


async def test_a_large_file_is_not_checked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _damaged(path)
    monkeypatch.setattr(connection, "QUICK_CHECK_MAX_BYTES", len(_content(path)) - 1)
    storage = sqlite_storage(path)
    await storage.open()
    with pytest.raises(StorageError, match="malformed"):
        await storage.chunks(ChunkQuery(handle=1, max_bytes=1 << 30))
    await storage.close()


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file"):
        await sqlite_storage(tmp_path / "nowhere" / "outlast.db").open()


async def test_a_closed_storage_is_an_error(path: Path) -> None:
    storage = sqlite_storage(path)
    with pytest.raises(StorageError, match="not open"):
        await storage.total()
    await storage.open()
    await storage.close()
    with pytest.raises(StorageError, match="not open"):
        await storage.commit([])


async def test_a_closed_storage_leaks_nothing(path: Path) -> None:
    threads = threading.active_count()
    for _ in range(5):
        storage = sqlite_storage(path)
        await storage.open()
        await added(storage)
        await storage.close()
    assert sorted(_modes(path.parent)) == [path.name, f"{path.name}-reserve"]
    assert threading.active_count() == threads
    assert _open_files(path.parent) == []


# ---- migrations


def _schema(db: sqlite3.Connection) -> list[object]:
    rows: list[object] = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
    rows += db.execute("PRAGMA user_version").fetchall() + db.execute("PRAGMA application_id").fetchall()
    return rows


@pytest.mark.parametrize("version", range(len(migrations := migrate.migrations())))
async def test_every_older_version_leads_to_the_same_schema(path: Path, version: int) -> None:
    older = path.with_name("older.db")
    with closing(sqlite3.connect(older, isolation_level=None)) as db:
        migrate.apply(db, migrations[:version])
    schemas = []
    for file in (path, older):
        storage = sqlite_storage(file)
        await storage.open()
        await storage.close()
        with closing(sqlite3.connect(file)) as db:
            schemas.append(_schema(db))
    assert schemas[0] == schemas[1]
    assert schemas[0][-2] == (len(migrations),)


def test_a_migration_is_applied_whole_or_not_at_all(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x); CREATE TABLE b (x)"]
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate.apply(db, steps)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
        migrate.apply(db, [steps[0], "CREATE TABLE b (x)"])
        assert db.execute("PRAGMA user_version").fetchone() == (2,)

"""Connections to the SQLite file: opening it, and running whole functions on a connection's thread in one hop."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self, TypeVar, cast
from urllib.parse import quote

import aiosqlite

from outlast.model.errors import OutlastError, StorageDamaged, StorageError, StorageFull, StorageUnavailable
from outlast.storage.sqlite import migrate, queries

T = TypeVar("T")

PAGE_SIZE_BYTES = 16 * 1024
"""Page size of a new file, chosen by measurements of bulk output and of many slow processes: see
docs/decisions/0002-sqlite-layout.md."""

BUSY_TIMEOUT_MS = 5000
"""Maximum time that a statement waits for a lock that another program (an operator's `sqlite3`, a backup) holds."""

WAL_LIMIT_BYTES = 64 * 1024 * 1024
"""Size of the log above which it is written back to the database, and to which it is cut afterwards."""

WRITER_CACHE_KIB = 32 * 1024
"""Page cache of the writer. Pages of a commit that do not fit are written to the log early, and once more."""

QUICK_CHECK_MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of a file that is checked when it is opened: the check reads all of it (about 1 ms a MiB)."""

STEP_S = 0.002
"""Time after which a step of a deletion is committed. A commit waits for one step at most."""
STEP_ROWS = 16
"""Number of rows that are deleted between two looks at the clock. A row has up to a mebibyte."""

FILE_MODE = 0o600

_TEMPORARY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_ADVICE = {
    sqlite3.SQLITE_BUSY: "; another program has locked the database: let it finish, or end it",
    sqlite3.SQLITE_CANTOPEN: "; check that the folder is there, and whose it is",
    sqlite3.SQLITE_IOERR: "; check the disk and the system's log",
    sqlite3.SQLITE_READONLY: "; check the permissions of the database and its folder, and how the disk is mounted",
}
"""Advice for operators, by primary result code."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_PRIMARY_CODE = 0xFF  # the upper bits of an extended result code hold detail that is not needed


def translate(error: sqlite3.Error) -> OutlastError:
    """Return the error of the storage contract for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _FULL:
        return StorageFull(f"the disk of the store is full: {error} ({name}); make room, or purge processes")
    if code & _PRIMARY_CODE in _TEMPORARY:
        advice = _ADVICE.get(code & _PRIMARY_CODE, "")
        return StorageUnavailable(f"SQLite cannot do this now, try again: {error} ({name}){advice}")
    kind = StorageDamaged if code & _PRIMARY_CODE in _DAMAGED else StorageError
    return kind(f"the SQLite file cannot be used: {error} ({name})")


class Connection(aiosqlite.Connection):
    """A connection that runs whole functions on its thread, because each hop there and back costs 70-100 us."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)

    @classmethod
    async def start(cls, connector: Callable[[], sqlite3.Connection]) -> Self:
        """Open a connection by calling `connector` on its own thread.

        Raises:
            StorageUnavailable, StorageError: raised by `connector`, or for SQLite's error. No thread is left behind.
        """
        connection = cls(connector)
        try:
            return cast("Self", await connection)
        except sqlite3.Error as error:
            raise translate(error) from error
        finally:
            if connection._connection is None:
                connection._thread.join()  # the thread has been told to stop: this takes microseconds

    async def close(self) -> None:
        """Close the connection and join its thread, which the base class does not."""
        await super().close()
        self._thread.join()

    async def transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` between `begin` and COMMIT on the connection's thread, or roll back if it raises.

        Raises:
            StorageUnavailable, StorageError: SQLite refused; nothing was stored.
        """
        return cast(
            "T",
            await self._execute(  # type: ignore[no-untyped-call]
                transact, self._conn, begin, work
            ),
        )

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which manages its own transactions, on the connection's thread."""
        return cast(
            "T",
            await self._execute(  # type: ignore[no-untyped-call]
                translated, self._conn, work
            ),
        )


def transact(db: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` between `begin` and COMMIT, or roll back if it raises. See `Connection.transact`."""
    try:
        db.execute(begin)
        result = work(db)
        db.execute("COMMIT")
    except BaseException as error:
        _roll_back(db)
        if isinstance(error, sqlite3.Error):
            raise translate(error) from error
        raise
    return result


def translated(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work`; roll back and translate the error if SQLite raises one."""
    try:
        return work(db)
    except sqlite3.Error as error:
        _roll_back(db)
        raise translate(error) from error


@contextmanager
def unsynced(db: sqlite3.Connection) -> Iterator[None]:
    """Let transactions that no answer depends on end before they are on the disk, on the writer's thread.

    A later commit cannot survive without them: the log is written in order.
    """
    (usual,) = db.execute("PRAGMA synchronous").fetchone()
    db.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        db.execute(f"PRAGMA synchronous = {usual}")


def transact_unsynced(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], None]) -> None:
    """Run `work` in a transaction that is not synced to the disk. See `unsynced`."""
    with unsynced(db):
        transact(db, "BEGIN IMMEDIATE", work)


def transact_for_a_moment(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], bool]) -> bool:
    """Run `work` in a transaction that is not synced, again and again for `STEP_S`, and return what it returned last.

    False ends the transaction before.
    """
    is_left = False

    def work_on(db: sqlite3.Connection) -> None:
        nonlocal is_left
        deadline = time.perf_counter() + STEP_S
        while (is_left := work(db)) and time.perf_counter() < deadline:
            pass

    transact_unsynced(db, work_on)
    return is_left


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # SQLite has rolled back by itself after some errors, such as a full disk
        db.execute("ROLLBACK")


def open_writer(path: Path, *, durable: bool, create: bool = True) -> sqlite3.Connection:
    """Open the connection that writes: create the file if it is missing, check it, and migrate its schema.

    `create`: whether the file may be missing.

    Raises:
        StorageDamaged: the file is damaged. Nothing was changed.
        StorageError: the file belongs to another program or a newer version. Nothing was changed.
        StorageUnavailable: the path cannot be opened.
        sqlite3.Error: the caller must translate it.
    """
    if create:
        _create(path)
    with closing(_connect(path, mode="ro")) as probe:
        is_new = migrate.refuse_unknown(probe, path)
        if path.stat().st_size <= QUICK_CHECK_MAX_BYTES:
            _quick_check(probe, path)
    db = _connect(path, mode="rw")
    try:
        _set_up(db, path, is_new=is_new, durable=durable)
        migrate.apply(db)
    except BaseException:
        db.close()
        raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    db = _connect(path, mode="rw")  # "ro" could not take part in the log's shared memory after a crash
    db.execute("PRAGMA query_only = ON")
    return db


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))  # SQLite would make it 0644
    except OSError as error:
        raise StorageUnavailable(f"the store {path} cannot be opened: {error.strerror}") from error


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,  # in force before the first statement
        isolation_level=None,  # the driver begins no transaction by itself
    )
    db.execute("PRAGMA temp_store = MEMORY")  # there may be no folder for temporary files, or no room in it
    return db


def _set_up(db: sqlite3.Connection, path: Path, *, is_new: bool, durable: bool) -> None:
    if is_new:  # neither can be changed once there is a table
        db.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise StorageError(f"{path}: SQLite's write-ahead log does not work on this file system; use a local disk")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # maintenance/checkpoint.py decides when, between commits
    db.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    db.execute("PRAGMA secure_delete = OFF")  # Debian's default is ON, which overwrites deleted data with zeros


def _quick_check(db: sqlite3.Connection, path: Path) -> None:
    problems = [text for (text,) in db.execute(queries.QUICK_CHECK)]
    if problems != ["ok"]:
        raise StorageDamaged(f"{path} is damaged, restore it from a backup: {problems[0]}")

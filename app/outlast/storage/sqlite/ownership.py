"""Ownership of a SQLite file: its lock, which one process at a time holds, and the state folder that it belongs to.

The lock is flock(2)'s, on the file itself: it holds for every path to the file, hard links included, and does not meet
the locks of SQLite, which are of another kind.
"""

import fcntl
import os
import sqlite3
from pathlib import Path

from outlast.linux.lock import flock_holder
from outlast.model.errors import AlreadyServed, StorageUnavailable
from outlast.storage.base import Owner
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.connection import FILE_MODE


class StoreLock:
    """A lock that is held. The kernel releases it when this process ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Release the lock. No connection of this process may be open any more."""
        os.close(self._fd)


def lock_store(path: Path, *, create: bool) -> StoreLock:
    """Lock the file. If it is missing and `create` says so, make it, as `open_writer` does.

    Raises:
        AlreadyServed: another process holds the lock.
        StorageUnavailable: the path cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), FILE_MODE)
    except OSError as error:
        raise StorageUnavailable(f"the store {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = flock_holder(fd)
        os.close(fd)
        who = f"pid {pid}" if pid else "outside of this container"
        raise AlreadyServed(
            f"another daemon ({who}) serves the store {path}: end it, or name another store with the setting storage"
        ) from None
    except OSError as error:
        os.close(fd)
        raise StorageUnavailable(f"the store {path} cannot be locked: {error.strerror}") from error
    return StoreLock(fd)


def stored_owner(db: sqlite3.Connection, path: Path) -> Owner | None:
    """Return whom the store belongs to."""
    row = db.execute(queries.OWNER).fetchone()
    return None if row is None else Owner(row[0], row[1], is_copied=row[2] != _place(path))


def store_owner(db: sqlite3.Connection, path: Path, owner: Owner) -> None:
    """Record whom the store belongs to, and where it is."""
    db.execute(queries.FORGET_OWNER)
    db.execute(queries.SET_OWNER, (owner.identity, owner.state_dir, _place(path)))


def _place(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev:x}-{status.st_ino:x}"

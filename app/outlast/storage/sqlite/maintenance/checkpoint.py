"""Checkpoints: the write-ahead log is written back to the database file before it grows long."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from outlast.model.errors import StorageUnavailable
from outlast.storage.sqlite.connection import WAL_LIMIT_BYTES

LEAST_WAL_BYTES = 4 * 1024 * 1024
"""The limit of the log on a full disk: what is written back at once needs no more room than that."""

CHECKPOINT_WAIT_MS = 100
"""Maximum time that a checkpoint, and with it the next commit, waits for reads in progress."""


class Checkpointer:
    """A judge of when the log is too long, and the checkpoint that empties it."""

    def __init__(self, path: Path, free_bytes: Callable[[], int]) -> None:
        """`free_bytes`: returns the free space of the disk. With little space the log must be short."""
        self._wal = Path(f"{path}-wal")
        self._free_bytes = free_bytes
        self._stuck_bytes = 0

    def is_due(self) -> bool:
        """Tell whether the log has grown enough for a checkpoint."""
        return self._wal_bytes() > self._stuck_bytes + self._limit_bytes()

    def checkpoint(self, db: sqlite3.Connection, *, truncate: bool = False) -> None:
        """Write the log back, so that the next commit starts it from the beginning and `journal_size_limit` cuts it.

        While another program holds an old snapshot, the log cannot start over. Commits then go on, and the next
        attempt is due when the log has grown by its limit once more: not every commit waits in vain.

        `truncate`: whether the log gives up all its room now.
        """
        (usual_wait_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
        db.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        db.execute(f"PRAGMA journal_size_limit = {self._limit_bytes()}")
        try:
            busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'RESTART'})").fetchone()
        finally:
            db.execute(f"PRAGMA busy_timeout = {usual_wait_ms}")
        self._stuck_bytes = self._wal_bytes() if busy else 0

    def _limit_bytes(self) -> int:
        return min(max(self._free_bytes() // 4, LEAST_WAL_BYTES), WAL_LIMIT_BYTES)

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0


def write_log_back(db: sqlite3.Connection) -> None:
    """Write all of the log back to the database, so that the log is not needed any more.

    Raises:
        StorageUnavailable: another program reads an old state of the database: try again when it has ended.
    """
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    if busy:
        raise StorageUnavailable("the log was deleted, and cannot be saved while another program reads the database")

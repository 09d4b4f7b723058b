"""Checkpoints: the write-ahead log is written back to the database file before it grows long."""

import sqlite3
from pathlib import Path

from outlast.model.errors import StorageUnavailable
from outlast.storage.sqlite.connection import WAL_LIMIT_BYTES
from outlast.storage.sqlite.maintenance.reserve import Reserve

CHECKPOINT_WAIT_MS = 100
"""Maximum time that a checkpoint, and with it the next commit, waits for reads in progress."""


class Checkpointer:
    """A judge of when the log is too long, and the checkpoint that empties it."""

    def __init__(self, path: Path, reserve: Reserve) -> None:
        """`reserve`: that of the disk. With little space the log must be short enough for it."""
        self._wal = Path(f"{path}-wal")
        self._reserve = reserve
        self._stuck_bytes = 0

    def is_due(self) -> bool:
        """Tell whether the log has grown enough for a checkpoint."""
        return self._wal_bytes() > self._stuck_bytes + self._limit_bytes()

    def checkpoint(self, db: sqlite3.Connection, *, truncate: bool = False) -> None:
        """Write the log back, so that the next commit starts it from the beginning and `journal_size_limit` cuts it.

        While another program holds an old snapshot, the log cannot start over. Commits then go on, and the next
        attempt is due when the log has grown by its limit once more: not every commit waits in vain.

        `truncate`: whether the log gives up all its room now. On a small disk it always does.
        """
        truncate |= self._reserve.is_small
        (usual_wait_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
        db.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        db.execute(f"PRAGMA journal_size_limit = {self._limit_bytes()}")
        try:
            busy, _, _ = db.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'RESTART'})").fetchone()
        finally:
            db.execute(f"PRAGMA busy_timeout = {usual_wait_ms}")
        self._stuck_bytes = self._wal_bytes() if busy else 0

    def _limit_bytes(self) -> int:
        share = self._reserve.free_bytes() // 4
        if share >= WAL_LIMIT_BYTES:
            return WAL_LIMIT_BYTES
        return min(max(share, self._reserve.log_bytes), WAL_LIMIT_BYTES)

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

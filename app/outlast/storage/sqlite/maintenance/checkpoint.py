"""Checkpoints: the write-ahead log is written back to the database file before it grows long."""

import sqlite3
from pathlib import Path

from outlast.model.errors import StorageUnavailable
from outlast.storage.sqlite.connection import WAL_LIMIT_BYTES

CHECKPOINT_WAIT_MS = 100
"""Maximum time that a checkpoint, and with it the next commit, waits for reads in progress."""


class Checkpointer:
    """A judge of when the log is too long, and the checkpoint that empties it."""

    def __init__(self, path: Path) -> None:
        self._wal = Path(f"{path}-wal")
        self._due_above_bytes = WAL_LIMIT_BYTES

    def is_due(self) -> bool:
        """Tell whether the log has grown enough for a checkpoint."""
        return self._wal_bytes() > self._due_above_bytes

    def checkpoint(self, db: sqlite3.Connection) -> None:
        """Write the log back, so that the next commit starts it from the beginning and `journal_size_limit` cuts it.

        While another program holds an old snapshot, the log cannot start over. Commits then go on, and the next
        attempt is due when the log has grown by its limit once more: not every commit waits in vain.
        """
        (usual_wait_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
        db.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            db.execute(f"PRAGMA busy_timeout = {usual_wait_ms}")
        self._due_above_bytes = (self._wal_bytes() if busy else 0) + WAL_LIMIT_BYTES

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

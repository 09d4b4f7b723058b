"""Upkeep between commits, on the writer's thread: keeps the log small, deletes what purges left behind."""

import sqlite3
from pathlib import Path

from outlast.storage.sqlite import queries
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES, WAL_LIMIT_BYTES

CHECKPOINT_WAIT_MS = 100
"""How long a checkpoint, and with it the next commit, may wait for reads that are under way."""

PURGE_STEP_CHUNKS = 64
"""So many chunks are deleted in one transaction: a commit never waits for more than that."""

VACUUM_STEP_PAGES = 4 * 1024 * 1024 // PAGE_SIZE_BYTES
"""So many free pages go back to the file system in one transaction."""


FREE_PAGES_KEPT = 64
"""So many stay in the file for what comes next, unless a purge has freed them."""


class Upkeep:
    """Knows when there is something to do. `step` does one small piece of it."""

    def __init__(self, path: Path) -> None:
        self._wal = Path(f"{path}-wal")
        self._checkpoint_above_bytes = WAL_LIMIT_BYTES

    def log_is_long(self) -> bool:
        """Tell whether a checkpoint is due."""
        return self._wal_bytes() > self._checkpoint_above_bytes

    def step(self, db: sqlite3.Connection) -> bool:
        """Do a piece of work; tell whether to call again."""
        if self.log_is_long():
            self._checkpoint(db)
        purging = db.execute(queries.OLDEST_PURGED).fetchone()
        if purging:
            _delete_some(db, purging[0])
            return True
        free = free_pages(db)
        if not free:
            return False
        _vacuum_some(db)
        if 0 < free_pages(db) < free:
            return True
        self._checkpoint(db)  # the file shrinks when the log is written back
        return False  # also if pages are left: a file rebuilt by other tools may keep them for ever

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Write the log back and begin it anew; journal_size_limit cuts it at the next commit.

        While a foreign reader holds an old snapshot the log cannot begin anew. Then the commits go on, and
        the next attempt is made when the log has grown by its limit again: not every commit waits in vain.
        """
        (usual_wait_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
        db.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            db.execute(f"PRAGMA busy_timeout = {usual_wait_ms}")
        self._checkpoint_above_bytes = (self._wal_bytes() if busy else 0) + WAL_LIMIT_BYTES

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0


def _delete_some(db: sqlite3.Connection, handle: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    deleted = db.execute(queries.DELETE_CHUNKS, (handle, PURGE_STEP_CHUNKS)).rowcount
    # The newest chunk of all stays, without its data: its process is forgotten when there is a newer one.
    if deleted < PURGE_STEP_CHUNKS and not db.execute(queries.EMPTY_NEWEST, (handle,)).rowcount:
        db.execute(queries.FORGET_PURGED, (handle,))
    db.execute("COMMIT")


def _vacuum_some(db: sqlite3.Connection) -> None:
    db.executescript(f"PRAGMA incremental_vacuum({VACUUM_STEP_PAGES})")  # execute() would stop after one page


def free_pages(db: sqlite3.Connection) -> int:
    """Count the pages of the file that hold nothing."""
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages

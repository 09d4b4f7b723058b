"""Reclamation of space: the output of purged processes is deleted, and free pages return to the file system."""

import sqlite3

from outlast.storage.sqlite import queries
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES

PURGE_STEP_CHUNKS = 64
"""Maximum number of rows deleted in one transaction, which is the longest that a commit waits for."""

FREE_PAGES_KEPT = 64
"""Number of free pages that stay in the file for later output, unless a purge has freed them."""


def has_purged(db: sqlite3.Connection) -> bool:
    """Tell whether rows of purged processes are left."""
    return db.execute(queries.OLDEST_PURGED).fetchone() is not None


def delete_purged_rows(db: sqlite3.Connection) -> bool:
    """Delete some rows of the oldest purged process, in a transaction. Return False if no purged process is left."""
    purged = db.execute(queries.OLDEST_PURGED).fetchone()
    if purged is None:
        return False
    (handle,) = purged
    db.execute("BEGIN IMMEDIATE")
    deleted = db.execute(queries.DELETE_CHUNKS, (handle, PURGE_STEP_CHUNKS)).rowcount
    # The newest row of all stays, without its data, and so does its process, until there is a newer row.
    if deleted < PURGE_STEP_CHUNKS and not db.execute(queries.EMPTY_NEWEST, (handle,)).rowcount:
        db.execute(queries.FORGET_PURGED, (handle,))
    db.execute("COMMIT")
    return True


def vacuum_pages(db: sqlite3.Connection, max_bytes: int) -> None:
    """Return some free pages, at most `max_bytes`, to the file system; the file shrinks at the next checkpoint."""
    pages = max(max_bytes // PAGE_SIZE_BYTES, 1)
    db.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() would stop after one page


def count_free_pages(db: sqlite3.Connection) -> int:
    """Count the free pages of the file."""
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages

"""Reclamation of space: the output of purged processes is deleted, and free pages return to the file system."""

import sqlite3

from outlast.storage.sqlite import queries
from outlast.storage.sqlite.connection import transact_unsynced

PURGE_STEP_CHUNKS = 64
"""Maximum number of rows deleted in one transaction, which is the longest that a commit waits for."""

FREE_BYTES_KEPT = 64 * 1024 * 1024
FREE_PART_KEPT = 20
"""Free pages that stay in the file for later output: these bytes, or a twentieth of the file, whichever is more. A
store at its limit would otherwise shrink and grow all the time."""


def has_purged(db: sqlite3.Connection) -> bool:
    """Tell whether rows of purged processes are left."""
    return db.execute(queries.OLDEST_PURGED).fetchone() is not None


def delete_purged_rows(db: sqlite3.Connection) -> bool:
    """Delete some rows of the oldest purged process, in a transaction. Return False if no purged process is left."""
    purged = db.execute(queries.OLDEST_PURGED).fetchone()
    if purged is None:
        return False
    (handle,) = purged

    def delete(db: sqlite3.Connection) -> None:
        deleted = db.execute(queries.DELETE_CHUNKS, (handle, PURGE_STEP_CHUNKS)).rowcount
        # The newest row of all stays, without its data, and so does its process, until there is a newer row.
        if deleted < PURGE_STEP_CHUNKS and not db.execute(queries.EMPTY_NEWEST, (handle,)).rowcount:
            db.execute(queries.FORGET_PURGED, (handle,))

    transact_unsynced(db, delete)
    return True


def vacuum_pages(db: sqlite3.Connection, pages: int) -> None:
    """Return some free pages, at least one, to the file system; the file shrinks at the next checkpoint."""
    db.executescript(f"PRAGMA incremental_vacuum({max(pages, 1)})")  # execute() would stop after one page


def count_excess_pages(db: sqlite3.Connection) -> int:
    """Count the free pages that need not stay in the file."""
    page_bytes: int = db.execute("PRAGMA page_size").fetchone()[0]
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    return max(0, count_free_pages(db) - max(FREE_BYTES_KEPT // page_bytes, pages // FREE_PART_KEPT))


def count_free_pages(db: sqlite3.Connection) -> int:
    """Count the free pages of the file."""
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages

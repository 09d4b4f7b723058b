"""Reclamation of space: the output of purged processes is deleted, and free pages return to the file system."""

import sqlite3
import time

from outlast.storage.sqlite import queries
from outlast.storage.sqlite.connection import STEP_ROWS, STEP_S, transact_for_a_moment, unsynced

_FIRST_PAGES = 64

FREE_BYTES_KEPT = 64 * 1024 * 1024
FREE_PART_KEPT = 20
"""Free pages that stay in the file for later output: these bytes, or a twentieth of the file, whichever is more. A
store at its limit would otherwise shrink and grow all the time."""


def has_purged(db: sqlite3.Connection) -> bool:
    """Tell whether rows of purged processes are left."""
    return db.execute(queries.OLDEST_PURGED).fetchone() is not None


def delete_purged_rows(db: sqlite3.Connection) -> bool:
    """Delete rows of purged processes, oldest first, for a moment. Return False if no purged process is left."""
    return has_purged(db) and transact_for_a_moment(db, _delete_rows)


def _delete_rows(db: sqlite3.Connection) -> bool:
    purged = db.execute(queries.OLDEST_PURGED).fetchone()
    if purged is None:
        return False
    (handle,) = purged
    deleted = db.execute(queries.DELETE_CHUNKS, (handle, STEP_ROWS)).rowcount
    # The newest row of all stays, without its data, and so does its process, until there is a newer row.
    if deleted < STEP_ROWS and not db.execute(queries.EMPTY_NEWEST, (handle,)).rowcount:
        db.execute(queries.FORGET_PURGED, (handle,))
    return True


class Vacuum:
    """Returns free pages to the file system, as many at a time as take a moment on this machine."""

    def __init__(self) -> None:
        self._pages = _FIRST_PAGES

    def step(self, db: sqlite3.Connection, most: int) -> int:
        """Return up to `most` pages in a transaction; the file shrinks at the next checkpoint.

        Returns:
            The number of pages. It is 0 for a file that other tools have rebuilt so that its free pages stay.
        """
        before, began = count_free_pages(db), time.perf_counter()
        pages = max(1, min(most, self._pages))
        with unsynced(db):
            # execute() would stop after one page.
            db.executescript(f"PRAGMA incremental_vacuum({pages})")
        took_s = time.perf_counter() - began
        self._pages = max(1, min(2 * pages, int(pages * STEP_S / took_s)))
        return before - count_free_pages(db)


def count_excess_pages(db: sqlite3.Connection) -> int:
    """Count the free pages that need not stay in the file."""
    page_bytes: int = db.execute("PRAGMA page_size").fetchone()[0]
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    return max(0, count_free_pages(db) - max(FREE_BYTES_KEPT // page_bytes, pages // FREE_PART_KEPT))


def count_free_pages(db: sqlite3.Connection) -> int:
    """Count the free pages of the file."""
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages

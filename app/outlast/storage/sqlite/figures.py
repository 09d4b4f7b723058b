"""Totals and sizes of the store.

The totals of output are in the newest row of output, the others in a table. So are those of output that got no row,
because it was purged in the commit that brought it.
"""

import json
import sqlite3
from pathlib import Path

from outlast.linux.disk_space import free_bytes
from outlast.model.totals import OUTPUT_TOTALS, Counted, StoreFigures, Tally
from outlast.storage.sqlite import queries
from outlast.storage.sqlite.maintenance.reserve import file_bytes
from outlast.storage.sqlite.trimming import oldest_output


def output_totals(db: sqlite3.Connection) -> list[int]:
    """Return the totals of output, in the order of `OUTPUT_TOTALS`."""
    row = db.execute(queries.OUTPUT_TOTALS).fetchone()
    if row is None or row[0] is None:  # the row is of a version that did not count
        return [0] * len(OUTPUT_TOTALS)
    totals: list[int] = json.loads(row[0])
    return totals


def figures(db: sqlite3.Connection, path: Path) -> StoreFigures:
    """Implement `Storage.figures`. `path`: that of the database."""
    totals = Tally({(Counted(counted), label): value for counted, label, value in db.execute(queries.TOTALS)})
    totals.update(dict(zip(OUTPUT_TOTALS, output_totals(db), strict=True)))
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    (free_pages,) = db.execute("PRAGMA freelist_count").fetchone()
    return StoreFigures(
        totals=totals,
        oldest_output_ms=oldest_output(db),
        database_bytes=file_bytes(path),
        log_bytes=file_bytes(path.with_name(f"{path.name}-wal")),
        free_bytes=free_pages * page_bytes,
        filesystem_free_bytes=free_bytes(path.parent),
    )

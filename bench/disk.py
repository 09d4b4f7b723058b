"""Bytes on the disk for each byte of output."""

import contextlib
import sqlite3
from pathlib import Path

from bench import writers
from bench.measure import OURS, Figures, Measure, Row
from bench.serving import outlast

_FIGURE = "bytes on the disk a byte"


def run_printed(folder: Path, lines: int) -> Figures:
    """Store output that comes in pieces of all sizes, as fast as it is read."""
    return _run(folder, writers.printer(lines), lines)


def run_at_once(folder: Path, lines: int) -> Figures:
    """Store output that comes in the largest pieces."""
    return _run(folder, writers.flood(lines), lines)


def _run(folder: Path, argv: list[str], lines: int) -> Figures:
    """Run a process, end everything, and measure the file: the write-ahead log is written back by then.

    Raises:
        RuntimeError: output is missing.
    """
    with outlast(folder / "state") as server:
        process_id = server.run(argv)["id"]
        server.call("GET", f"/processes/{process_id}/wait?until=exit&timeout=25")
    printed = lines * writers.LINE_BYTES
    with contextlib.closing(sqlite3.connect(server.database)) as db:
        (stored,) = db.execute("SELECT bytes FROM processes WHERE id = ?", (process_id,)).fetchone()
    if stored != printed:
        raise RuntimeError(f"of {printed} bytes {stored} are stored")
    return {_FIGURE: server.database.stat().st_size / printed}


_AT_ONCE = "outlast, 960 KB at once"

MEASURE = Measure(
    name="disk",
    title=f"{{size}} lines of {writers.LINE_BYTES} bytes, with a `print` for each: the whole store, a byte printed",
    contestants={OURS: run_printed, _AT_ONCE: run_at_once},
    rows=(
        Row(figure=_FIGURE, yardstick=None, at_most=1.05),
        Row(figure=_FIGURE, yardstick=None, ours=_AT_ONCE, at_most=1.05),
    ),
    size=2_000_000,
    smoke_size=20_000,
)

"""Bytes on the disk of real logs that are old and compressed."""

import contextlib
import itertools
import sqlite3
import sys
import time
from pathlib import Path

from bench.measure import OURS, Figures, Measure, Row
from bench.serving import outlast
from outlast.storage.sqlite.maintenance.reclamation import count_excess_pages

_LOGS = Path("/var/log")
_CHECKOUT = Path(__file__).parents[1]
_FIGURE = "bytes on the disk a byte"
_COMPRESSED_PART = 0.99  # of what was printed: what is too small stays as it is
_DEADLINE_S = 120.0
_LOOK_AGAIN_S = 0.05

_BY_LINE = """
import sys
with open(sys.argv[1], "rb") as file:
    for line in file:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""


def run_blocks(folder: Path, lines: int) -> Figures:
    """Print the logs with `cat`."""
    return _run(folder, ["cat", str(_logs(folder, lines))])


def run_lines(folder: Path, lines: int) -> Figures:
    """Print the logs with a program that flushes after each line."""
    return _run(folder, [sys.executable, "-I", "-S", "-c", _BY_LINE, str(_logs(folder, lines))])


def _logs(folder: Path, lines: int) -> Path:
    """Write `lines` lines of this machine's logs (without logs: of our documents) into a file, and return its path.

    Lines are repeated if there are too few, farther apart than what is compressed together.
    """
    sources = sorted(_LOGS.glob("**/*.log")) or sorted(_CHECKOUT.glob("docs/**/*.md"))
    known = [line for source in sources for line in source.read_bytes().splitlines(keepends=True)]
    path = folder / "logs"
    path.write_bytes(b"".join(itertools.islice(itertools.cycle(known), lines)))
    return path


def _run(folder: Path, argv: list[str]) -> Figures:
    """Print, wait until the output is compressed and free pages are given back, and measure the file.

    Raises:
        RuntimeError: the output is not compressed in time.
    """
    with outlast(folder / "state", compress_after_s=1) as server:
        process_id = server.run(argv)["id"]
        server.call("GET", f"/processes/{process_id}/wait?until=exit&timeout=25")
        with contextlib.closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as db:
            (printed,) = db.execute("SELECT bytes FROM processes WHERE id = ?", (process_id,)).fetchone()
            deadline = time.monotonic() + _DEADLINE_S
            while _compressed_bytes(db) < _COMPRESSED_PART * printed or count_excess_pages(db):
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"of {printed} bytes {_compressed_bytes(db)} are compressed, {_free_pages(db)} pages free"
                    )
                time.sleep(_LOOK_AGAIN_S)
    return {_FIGURE: server.database.stat().st_size / printed}


def _compressed_bytes(db: sqlite3.Connection) -> int:
    compressed: int = db.execute("SELECT coalesce(sum(raw_bytes), 0) FROM output_chunk").fetchone()[0]
    return compressed


def _free_pages(db: sqlite3.Connection) -> int:
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages


_LINES = "outlast, a line at a time"

MEASURE = Measure(
    name="compressed",
    title="{size} lines of this machine's logs, compressed: the whole store, a byte printed",
    contestants={OURS: run_blocks, _LINES: run_lines},
    rows=(
        Row(figure=_FIGURE, yardstick=None, at_most=0.25),
        Row(figure=_FIGURE, yardstick=None, ours=_LINES, at_most=0.25),
    ),
    size=300_000,
    smoke_size=20_000,
)

"""How fast a flood of output becomes readable: Outlast, other supervisors and a plain file."""

import contextlib
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import pm2, writers
from bench.circus import circus
from bench.measure import OURS, Contestant, Figures, Measure, Row
from bench.peer import Peer
from bench.serving import outlast
from bench.supervisord import supervisord
from harness.plain_sql import register_sqlar_uncompress

_LOOK_AGAIN_S = 0.005
_STALLED_S = 60.0
_CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Flood:
    """A number of lines, and the program of `writers.PROGRAMS` that writes them."""

    lines: int
    program: str

    @property
    def argv(self) -> list[str]:
        """Command that writes the flood."""
        return writers.PROGRAMS[self.program].argv(self.lines)

    @property
    def bytes(self) -> int:
        """Size of the flood."""
        return self.lines * writers.LINE_BYTES


def run_outlast(folder: Path, flood: Flood, *, durable: bool = True) -> float:
    """Return the seconds from the start of the process until its last line is readable by SQL.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    with outlast(folder / "state", durable=durable) as server, contextlib.closing(_read_only(server.database)) as db:
        started = time.monotonic()
        process_id = server.run(flood.argv)["id"]
        # The view `processes` counts what is committed, at a cost that does not grow with the output.
        _until(lambda: _one(db, "SELECT bytes FROM processes WHERE id = ?", process_id), flood.bytes)
        seconds = time.monotonic() - started
        _verify_rows(db, process_id, flood.lines)
    return seconds


def run_outlast_relaxed(folder: Path, flood: Flood) -> float:
    """Measure Outlast with the setting `durable = false`."""
    return run_outlast(folder, flood, durable=False)


def run_peer(
    peer: Callable[[Path, Path], contextlib.AbstractContextManager[Peer]], folder: Path, flood: Flood
) -> float:
    """Return the seconds from the start of the process until all its bytes are in a peer's file.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    script = folder / "flood.sh"
    script.write_text(f"exec {shlex.join(flood.argv)}\n", encoding="utf-8")
    with peer(folder, script) as server:
        started = time.monotonic()
        server.start_program()
        _until(lambda: _size(server.output), flood.bytes)
        seconds = time.monotonic() - started
    _verify_file(server.output, flood)
    return seconds


def run_shell(folder: Path, flood: Flood, *, through: str = "", synced: bool = False) -> float:
    """Return the seconds that the same program needs when the shell redirects its output to a file.

    Args:
        folder: folder of the file.
        flood: lines to write.
        through: shell words between the program and the redirection.
        synced: whether to wait until the file is on the disk.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    output = folder / "stdout.log"
    command = f"{shlex.join(flood.argv)} {through} > {shlex.quote(str(output))}"
    started = time.monotonic()
    subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, check=True)
    if synced:
        with output.open("ab") as file:
            os.fsync(file.fileno())
    seconds = time.monotonic() - started
    _verify_file(output, flood)
    return seconds


def run_sqlite(folder: Path, flood: Flood) -> float:
    """Return the seconds that the same program needs when `sqlite_sink` stores its output.

    Raises:
        RuntimeError: bytes are missing.
    """
    database = folder / "sink.db"
    command = f"{shlex.join(flood.argv)} | {shlex.join([sys.executable, '-m', 'bench.sqlite_sink', str(database)])}"
    started = time.monotonic()
    subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, cwd=_CHECKOUT, check=True)
    seconds = time.monotonic() - started
    with contextlib.closing(_read_only(database)) as db:
        (stored,) = db.execute("SELECT sum(length(data)) FROM chunk").fetchone()
    if stored != flood.bytes:
        raise RuntimeError(f"SQLite has {stored} bytes of {flood.bytes}")
    return seconds


_RELAXED = "outlast, durable = false"
_SYNCED = "plain file, synced"
_PIPED = "plain file, through `cat`"
_SQLITE = "SQLite alone"
_RUNNERS: dict[str, Callable[[Path, Flood], float]] = {
    OURS: run_outlast,
    _RELAXED: run_outlast_relaxed,
    "supervisord": partial(run_peer, supervisord),
    "pm2": partial(run_peer, pm2.pm2),
    "circus": partial(run_peer, circus),
    "plain file": run_shell,
    _SYNCED: partial(run_shell, synced=True),
    _PIPED: partial(run_shell, through="| cat"),
    _SQLITE: run_sqlite,
}
_ROWS = (
    Row(figure="lines/s", yardstick="supervisord", at_least=1.0),
    Row(figure="lines/s", yardstick="pm2", at_least=3.0),
    Row(figure="lines/s", yardstick="circus"),
    Row(figure="lines/s", yardstick="plain file", at_least=0.8),
    Row(figure="lines/s", yardstick=_SYNCED),
    Row(figure="lines/s", yardstick=_PIPED),
    Row(figure="lines/s", yardstick=_SQLITE),
    Row(figure="lines/s", yardstick="supervisord", ours=_SQLITE),
    Row(figure="lines/s", yardstick="supervisord", ours=_RELAXED),
)
# circus reads 1 KiB at a time: with all lines it would take longer than all other contestants together.
_SHARES = {"circus": 10}
_LEFT_OUT = {"pm2": why} if (why := pm2.missing()) else {}


def _measure(program: str) -> Measure:
    how = writers.PROGRAMS[program].how
    return Measure(
        name=f"flood-{program}",
        title=f"{{size}} lines of {writers.LINE_BYTES} bytes, {how}, until the last one is readable",
        contestants={
            name: _contestant(run, program, _SHARES.get(name, 1))
            for name, run in _RUNNERS.items()
            if name not in _LEFT_OUT
        },
        rows=[row for row in _ROWS if row.yardstick not in _LEFT_OUT],
        size=5_000_000,
        smoke_size=20_000,
        lacks={
            "supervisord": "times, numbers, SQL, resuming; its own death and a loss of power cost lines",
            "pm2": "what supervisord does; exact bytes; last lines, unless the process waits until they are written",
            "circus": "what pm2 does (it wrote a tenth of the lines)",
            "plain file": "what supervisord does; somebody who watches the process",
            _SYNCED: "what the plain file does, but for the loss of power",
            _PIPED: "what the plain file does",
            _SQLITE: "processes, lines, times, numbers, following, resuming, bounds; it is one pipe and one file",
        },
        left_out=_LEFT_OUT,
    )


def _contestant(run: Callable[[Path, Flood], float], program: str, share: int) -> Contestant:
    def work(folder: Path, size: int) -> Figures:
        lines = max(1, size // share)
        seconds = run(folder, Flood(lines, program))
        return {"lines/s": lines / seconds, "MB/s": lines * writers.LINE_BYTES / seconds / 1e6}

    return work


MEASURES = [_measure(program) for program in writers.PROGRAMS]


def _until(progress: Callable[[], int], wanted: int) -> None:
    """Wait until `progress` has reached `wanted`.

    Raises:
        RuntimeError: the progress stalled.
    """
    seen, stalls_at = -1, 0.0
    while (now := progress()) < wanted:
        if now != seen:
            seen, stalls_at = now, time.monotonic() + _STALLED_S
        elif time.monotonic() > stalls_at:
            raise RuntimeError(f"nothing has come for {_STALLED_S:.0f} s: {now} of {wanted}")
        time.sleep(_LOOK_AGAIN_S)


def _read_only(database: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=_STALLED_S, isolation_level=None)
    register_sqlar_uncompress(db)
    return db


def _one(db: sqlite3.Connection, sql: str, process_id: str) -> int:
    row = db.execute(sql, (process_id,)).fetchone()
    return int(row[0]) if row else 0


def _verify_rows(db: sqlite3.Connection, process_id: str, lines: int) -> None:
    """Check every line through the SQL view, as an operator would read it."""
    count, last_seq = db.execute(
        "SELECT count(*), max(seq) FROM output_lines WHERE process_id = ?", (process_id,)
    ).fetchone()
    (last_line,) = db.execute(
        "SELECT line FROM output_tail WHERE process_id = ? ORDER BY seq DESC LIMIT 1", (process_id,)
    ).fetchone()
    # On a busy machine the rest of a line may come late: the line is then stored as two parts, each with a number.
    (parts,) = db.execute("SELECT count(*) FROM output_chunk WHERE unfinished_bytes > 0").fetchone()
    if parts:
        print(f"  note: {parts} of the lines were stored in two parts", flush=True)
    if (count, last_seq, last_line.encode()) != (lines, lines + parts, writers.flood_line(lines - 1)):
        raise RuntimeError(f"of {lines} lines {count} are there, the last is {last_seq}: {last_line!r}")


def _verify_file(output: Path, flood: Flood) -> None:
    with output.open("rb") as file:
        file.seek(-writers.LINE_BYTES, os.SEEK_END)
        last_line = file.read()
    if _size(output) != flood.bytes or last_line != writers.flood_line(flood.lines - 1) + b"\n":
        raise RuntimeError(f"{output} has {_size(output)} bytes and ends with {last_line!r}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

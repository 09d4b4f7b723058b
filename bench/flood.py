"""How fast a flood of output becomes readable: Outlast, supervisord and a plain file, in turn."""

import contextlib
import os
import shlex
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import writers
from bench.serving import cpu_seconds, outlast
from bench.supervisord import supervisord

_LOOK_AGAIN_S = 0.005
_STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one contestant."""

    seconds: float
    cpu_s: float | None = None


def run_outlast(folder: Path, lines: int) -> Measured:
    """Measure from the start of the process until its last line is readable by SQL.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    with outlast(folder / "state") as server, contextlib.closing(_read_only(server.database)) as db:
        cpu_before = cpu_seconds(server.pid)
        started = time.monotonic()
        process = server.run(writers.flood(lines))
        # What this counts is what the view `output_lines` shows, and it costs the same however much is stored.
        _until(lambda: _one(db, "SELECT lines FROM processes WHERE id = ?", process["id"]), lines)
        measured = Measured(time.monotonic() - started, cpu_seconds(server.pid) - cpu_before)
        _verify(db, process["id"], lines)
    return measured


def run_supervisord(folder: Path, lines: int) -> Measured:
    """Measure from the start of the process until all its bytes are in supervisord's file.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    script = folder / "flood.sh"
    script.write_text(f"exec {shlex.join(writers.flood(lines))}\n", encoding="utf-8")
    with supervisord(folder / "supervisord", script) as server:
        cpu_before = cpu_seconds(server.pid)
        started = time.monotonic()
        server.start_program()
        _until(lambda: _size(server.output), lines * writers.LINE_BYTES)
        measured = Measured(time.monotonic() - started, cpu_seconds(server.pid) - cpu_before)
        _verify_file(server.output, lines)
    return measured


def run_plain_file(folder: Path, lines: int) -> Measured:
    """Measure the same program, redirected to a file by the shell.

    Raises:
        RuntimeError: lines are missing, or not what was written.
    """
    output = folder / "stdout.log"
    command = f"exec {shlex.join(writers.flood(lines))} > {shlex.quote(str(output))}"
    started = time.monotonic()
    subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, check=True)
    measured = Measured(time.monotonic() - started)
    _verify_file(output, lines)
    return measured


CONTESTANTS: dict[str, Callable[[Path, int], Measured]] = {
    "outlast": run_outlast,
    "supervisord": run_supervisord,
    "plain file": run_plain_file,
}


def _until(progress: Callable[[], int], wanted: int) -> None:
    """Wait until `progress` has come to `wanted`.

    Raises:
        RuntimeError: it stands still.
    """
    seen, stalls_at = -1, 0.0
    while (now := progress()) < wanted:
        if now != seen:
            seen, stalls_at = now, time.monotonic() + _STALLED_S
        elif time.monotonic() > stalls_at:
            raise RuntimeError(f"nothing has come for {_STALLED_S:.0f} s: {now} of {wanted}")
        time.sleep(_LOOK_AGAIN_S)


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30, isolation_level=None)


def _one(db: sqlite3.Connection, sql: str, *parameters: object) -> int:
    row = db.execute(sql, parameters).fetchone()
    return int(row[0]) if row else 0


def _verify(db: sqlite3.Connection, process_id: str, lines: int) -> None:
    """Ask the view for all there is."""
    count, last_seq = db.execute(
        "SELECT count(*), max(seq) FROM output_lines WHERE process_id = ?", (process_id,)
    ).fetchone()
    (last_line,) = db.execute(
        "SELECT line FROM output_tail WHERE process_id = ? AND seq = ?", (process_id, lines)
    ).fetchone()
    if (count, last_seq, last_line.encode()) != (lines, lines, writers.flood_line(lines - 1)):
        raise RuntimeError(f"of {lines} lines {count} are there, the last is {last_seq}: {last_line!r}")


def _verify_file(output: Path, lines: int) -> None:
    with output.open("rb") as file:
        file.seek(-writers.LINE_BYTES, os.SEEK_END)
        last_line = file.read()
    if _size(output) != lines * writers.LINE_BYTES or last_line != writers.flood_line(lines - 1) + b"\n":
        raise RuntimeError(f"{output} has {_size(output)} bytes and ends with {last_line!r}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

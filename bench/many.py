"""Many processes at once: the cost of capturing their output, and how long any of them is delayed."""

import contextlib
import os
import shlex
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench import writers
from bench.measure import OURS, Contestant, Figures, Measure, Row
from bench.serving import outlast
from bench.supervisord import supervisord
from harness import proc
from harness.plain_sql import register_sqlar_uncompress

_LOOK_AGAIN_S = 0.1
_START_S = 120.0
_STALLED_S = 60.0
_BUSY_LINES_PER_S = 2000
_BURST_LINES = 40
_NUMBER = "NUMBER"


@dataclass(frozen=True, slots=True)
class Crowd:
    """Processes that print at an even pace: `bursts` times `burst_lines` lines each, one burst every `interval_ms`."""

    processes: int
    bursts: int
    burst_lines: int
    interval_ms: int

    @property
    def lines(self) -> int:
        """Lines of each process."""
        return self.bursts * self.burst_lines

    @property
    def bytes(self) -> int:
        """Bytes of all processes together."""
        return self.processes * self.lines * writers.LINE_BYTES


class Stage:
    """A folder in which a crowd waits for its beginning, reports its delays, and waits for its end.

    No process prints before all have started, so that neither starts nor ends are measured.
    """

    def __init__(self, folder: Path, crowd: Crowd) -> None:
        self.folder = folder
        self._crowd = crowd
        self._gate = folder / "gate"
        self._gate_fd = -1
        folder.mkdir()
        os.mkfifo(self._gate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def argv(self, number: int | str) -> list[str]:
        """Return the command of one process."""
        crowd = self._crowd
        return writers.pacer(self.folder, number, crowd.processes, crowd.bursts, crowd.burst_lines, crowd.interval_ms)

    def until_all_are_here(self) -> None:
        """Wait until all processes have started.

        Raises:
            RuntimeError: some did not start in time.
        """
        _until(lambda: sum(1 for _ in self.folder.iterdir()) > self._crowd.processes, _START_S)

    def begin(self) -> None:
        """Open the gate: the processes print."""
        self._gate_fd = os.open(self._gate, os.O_WRONLY)

    def delays_ms(self) -> list[float]:
        """Wait until all have printed, and return how far each was behind its pace when it was furthest behind.

        Raises:
            RuntimeError: some processes stalled.
        """
        reports = [self.folder / str(number) for number in range(self._crowd.processes)]
        _until(lambda: all(report.stat().st_size for report in reports), _STALLED_S + self._crowd.bursts)
        return [int(report.read_text()) / 1e6 for report in reports]

    def end(self) -> None:
        """Close the gate: the processes end. Those that still wait begin, and end when their pipe has no reader."""
        with contextlib.suppress(OSError):  # nobody waits
            self._gate_fd = self._gate_fd if self._gate_fd >= 0 else os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK)
            os.close(self._gate_fd)
        self._gate_fd = -1


def run_outlast(folder: Path, crowd: Crowd) -> Figures:
    """Run the crowd in Outlast, and measure daemon and shim from the first line until all is stored.

    The daemon is restarted before they begin and stopped before they end: all that it writes is their output, with the
    write-ahead log written back.

    Raises:
        RuntimeError: something is missing, or not what was printed.
    """
    with outlast(folder / "state") as server, Stage(folder / "stage", crowd) as stage:
        ids = [server.run(stage.argv(number))["id"] for number in range(crowd.processes)]
        stage.until_all_are_here()
        server.stop()
        server.start()
        spent = _Spent(server.pids)
        stage.begin()
        delays_ms = stage.delays_ms()
        _until(lambda: _stored_bytes(server.database) >= crowd.bytes, _STALLED_S)
        figures = spent.figures(delays_ms)
        earlier_bytes = proc.written_bytes_of_ended_children()
        written_bytes = spent.written_bytes([server.shim_pid])
        server.stop()
        written_bytes += proc.written_bytes_of_ended_children() - earlier_bytes
        with _database(server.database) as db:
            for number, process_id in enumerate(ids):
                rows = db.execute(_OUTPUT, (process_id,))
                _verify(crowd, number, b"".join(data for (data,) in rows))
    return figures | {"written / printed": written_bytes / crowd.bytes}


def run_supervisord(folder: Path, crowd: Crowd) -> Figures:
    """Run the crowd in supervisord, and measure it from the first line until all is in its files.

    Raises:
        RuntimeError: something is missing, or not what was printed.
    """
    waiting = Stage(folder / "stage", crowd)
    script = folder / "one.sh"
    script.write_text("exec " + shlex.join(waiting.argv(_NUMBER)).replace(_NUMBER, '"$1"'), encoding="utf-8")
    with supervisord(folder, script, crowd.processes) as server, waiting as stage:
        stage.until_all_are_here()
        spent = _Spent([server.pid])
        stage.begin()
        delays_ms = stage.delays_ms()
        _until(lambda: sum(output.stat().st_size for output in server.outputs) >= crowd.bytes, _STALLED_S)
        figures = spent.figures(delays_ms)
        written_bytes = spent.written_bytes([server.pid])
    for number, output in enumerate(server.outputs):
        _verify(crowd, number, output.read_bytes())
    return figures | {"written / printed": written_bytes / crowd.bytes}


def run_unread(folder: Path, crowd: Crowd) -> Figures:
    """Run the crowd with its output discarded: the delays are the machine's own.

    Raises:
        RuntimeError: some processes stalled.
    """
    with Stage(folder / "stage", crowd) as stage, contextlib.ExitStack() as running:
        for number in range(crowd.processes):
            process = subprocess.Popen(stage.argv(number), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.kill)
        stage.until_all_are_here()
        stage.begin()
        return _delays(stage.delays_ms())


class _Spent:
    """Processor time and writes of processes from now on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._cpu_s = sum(map(proc.cpu_s, pids))
        self._written_bytes = sum(map(proc.written_bytes, pids))

    def figures(self, delays_ms: Sequence[float]) -> dict[str, float]:
        return {"CPU s": sum(map(proc.cpu_s, self._pids)) - self._cpu_s, **_delays(delays_ms)}

    def written_bytes(self, left: Sequence[int]) -> int:
        """Return the bytes written from then on by the processes that are `left`, and by the others before."""
        return sum(map(proc.written_bytes, left)) - self._written_bytes


def _delays(delays_ms: Sequence[float]) -> dict[str, float]:
    return {"median delay ms": statistics.median(delays_ms), "longest delay ms": max(delays_ms)}


_OUTPUT = """
SELECT c.data FROM output_readable c JOIN process p ON p.handle = c.handle WHERE p.id = ? ORDER BY c.first_seq
"""


def _database(path: Path) -> contextlib.closing[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    register_sqlar_uncompress(db)
    return contextlib.closing(db)


def _stored_bytes(database: Path) -> int:
    with _database(database) as db:
        (count,) = db.execute("SELECT sum(bytes) FROM processes").fetchone()
    return int(count)


def _verify(crowd: Crowd, number: int, output: bytes) -> None:
    if output != b"".join(writers.paced_line(number, line) for line in range(crowd.lines)):
        raise RuntimeError(f"of process {number} {len(output)} bytes are there, and not what it printed")


def _until(condition: Callable[[], bool], at_most_s: float) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("timed out: output is missing, or a process is stuck")
        time.sleep(_LOOK_AGAIN_S)


def _contestant(run: Callable[[Path, Crowd], Figures], crowd: Callable[[int], Crowd]) -> Contestant:
    return lambda folder, size: run(folder, crowd(size))


def _busy(lines: int) -> Crowd:
    """Return 200 processes that print `lines` lines together; fewer for a smoke run."""
    processes = min(200, lines // _BUSY_LINES_PER_S)
    return Crowd(processes, lines // processes // _BURST_LINES, _BURST_LINES, 1000 * _BURST_LINES // _BUSY_LINES_PER_S)


def _quiet(lines: int) -> Crowd:
    """Return 1,000 processes that print a line a second each; fewer for a smoke run."""
    processes = min(1000, lines)
    return Crowd(processes, lines // processes, 1, 1000)


def _measure(
    name: str, title: str, crowd: Callable[[int], Crowd], rows: Sequence[Row], size: int, smoke: int
) -> Measure:
    runners = {OURS: run_outlast, "supervisord": run_supervisord, "nobody reads": run_unread}
    return Measure(
        name=name,
        title=title,
        contestants={contestant: _contestant(run, crowd) for contestant, run in runners.items()},
        rows=rows,
        size=size,
        smoke_size=smoke,
        lacks={"supervisord": "times, order of the streams, SQL, what survives a kill", "nobody reads": "everything"},
    )


MEASURES = (
    _measure(
        "many-busy",
        f"{{size}} lines by 200 processes at once, each {_BUSY_LINES_PER_S:,} lines/s",
        _busy,
        (
            Row(figure="CPU s", yardstick="supervisord", at_most=1.5),
            Row(figure="longest delay ms", yardstick="nobody reads"),
        ),
        size=4_000_000,
        smoke=10_000,
    ),
    _measure(
        "many-quiet",
        "{size} lines by 1,000 processes at once, each a line a second",
        _quiet,
        (
            Row(figure="CPU s", yardstick="supervisord", at_most=2.0),
            Row(figure="written / printed", yardstick=None, at_most=4.0),
            Row(figure="longest delay ms", yardstick="nobody reads"),
        ),
        size=30_000,
        smoke=10,
    ),
)

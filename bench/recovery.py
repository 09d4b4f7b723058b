"""Seconds until the successor of a killed daemon answers, with running processes and with none."""

import time
from pathlib import Path

from bench.measure import OURS, Figures, Measure, Row
from bench.serving import outlast

_EMPTY = "empty store"


def run_outlast(folder: Path, processes: int) -> Figures:
    """Return the seconds from the start of a daemon until it has answered a list, beside running processes.

    Raises:
        RuntimeError: not all processes survived.
    """
    with outlast(folder / "state") as server:
        for _ in range(processes):
            server.run(["sleep", "86400"])
        server.kill()
        started = time.monotonic()
        server.start()
        server.call("GET", "/processes?limit=10")
        seconds = time.monotonic() - started
        running = server.call("GET", "/info")["running_processes"]
        if running != processes:
            raise RuntimeError(f"{running} of {processes} processes run on")
    return {"s": seconds}


def run_empty(folder: Path, _processes: int) -> Figures:
    """Return the seconds of a daemon and a shim without processes."""
    return run_outlast(folder, 0)


MEASURE = Measure(
    name="recovery",
    title="the daemon is killed (-9) and started again beside {size} running processes, until a list is answered",
    contestants={OURS: run_outlast, _EMPTY: run_empty},
    rows=(Row(figure="s", yardstick=_EMPTY, at_most=1.0, is_difference=True),),
    size=500,
    smoke_size=20,
)

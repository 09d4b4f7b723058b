"""Starts, and runs to their ends, a second with eight clients at once, by Outlast and by asyncio alone."""

import json
import subprocess
import sys
from pathlib import Path

from bench.measure import OURS, Figures, Measure, Row
from bench.serving import outlast
from harness.proc import cpu_s

_END_S = 300.0


def run_outlast(folder: Path, starts: int, *, durable: bool = True) -> Figures:
    """Start processes by a daemon, until the last answer: each runs then, and is stored.

    Raises:
        RuntimeError: a start was refused, or a process does not run.
    """
    with outlast(folder / "state", durable=durable) as server:
        before_s = sum(map(cpu_s, server.pids))
        figures = _starters("http", str(starts), server.host, str(server.port), said=server.headers["Authorization"])
        figures["CPU ms a start"] = (sum(map(cpu_s, server.pids)) - before_s) * 1000 / starts
        running = server.call("GET", "/info")["running_processes"]
        if running != starts:
            raise RuntimeError(f"{running} of {starts} processes run")
    return figures


def run_relaxed(folder: Path, starts: int) -> Figures:
    """Measure Outlast with the setting `durable = false`."""
    return run_outlast(folder, starts, durable=False)


def run_asyncio(_folder: Path, starts: int) -> Figures:
    """Start processes by asyncio.create_subprocess_exec, until the last has started."""
    return _starters("asyncio", str(starts))


def run_to_the_end(folder: Path, runs: int) -> Figures:
    """Let a daemon run a program by `run`, until the last exit event has come."""
    with outlast(folder / "state") as server:
        before_s = sum(map(cpu_s, server.pids))
        figures = _starters("run", str(runs), server.host, str(server.port), said=server.headers["Authorization"])
        figures["CPU ms a start"] = (sum(map(cpu_s, server.pids)) - before_s) * 1000 / runs
    return figures


def run_asyncio_to_the_end(_folder: Path, runs: int) -> Figures:
    """Run the same program by asyncio, until it has ended and its pipes have."""
    return _starters("asyncio-run", str(runs))


def run_fork(folder: Path, starts: int) -> Figures:
    """Start processes by a bare interpreter that forks, and syncs a line for each eight before their programs run."""
    return _python("-S", "-m", "bench.forker", str(starts), str(folder / "log"))


def _starters(*words: str, said: str = "") -> dict[str, float]:
    """Run `bench.starters` in a process of its own."""
    return _python("-m", "bench.starters", *words, said=said)


def _python(*words: str, said: str = "") -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, *words],
        input=said,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_END_S,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


_RELAXED = "outlast, durable = false"
_ASYNCIO = "asyncio alone"
_FORK = "fork and a synced line"
_START = Measure(
    name="start",
    title="{size} starts of `sleep`, 8 clients at once, until all are answered",
    contestants={OURS: run_outlast, _RELAXED: run_relaxed, _ASYNCIO: run_asyncio, _FORK: run_fork},
    rows=(
        Row(figure="starts/s", yardstick=_ASYNCIO, at_least=0.9),
        Row(figure="starts/s", yardstick=_ASYNCIO, ours=_RELAXED),
        Row(figure="starts/s", yardstick=_FORK),
        Row(figure="starts/s", yardstick=_ASYNCIO, ours=_FORK),
        Row(figure="CPU ms a start", yardstick=_ASYNCIO, at_most=2.5),
    ),
    size=1_000,
    smoke_size=40,
    lacks={
        _ASYNCIO: "HTTP, a record, cgroups, survival of its own death; what is printed waits in the pipe",
        _FORK: "all that asyncio lacks, and asyncio; failures of a start; clients",
    },
)
_RUN = Measure(
    name="run",
    title="{size} times `true` by `run`, 8 clients at once, until the last exit event",
    contestants={OURS: run_to_the_end, _ASYNCIO: run_asyncio_to_the_end},
    rows=(
        Row(figure="starts/s", yardstick=_ASYNCIO, at_least=0.9),
        Row(figure="CPU ms a start", yardstick=_ASYNCIO, at_most=2.5),
    ),
    size=1_000,
    smoke_size=40,
    lacks={_ASYNCIO: "HTTP, a record, stored and numbered output, cgroups, survival of its own death"},
)
MEASURES = (_START, _RUN)

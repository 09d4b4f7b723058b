"""A daemon with a history: lists, one process and the end of a long output cost what they cost in a young store."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench import history
from bench.client import Client
from bench.measure import OURS, Figures, Measure, Row
from bench.queries import queries, time_query
from bench.serving import Outlast, outlast

RUNNING = 500
YOUNG = 1000
"""Ended processes in the young store with which an old one is compared."""

_SLEEPER = {"command": "/bin/sleep", "args": ["86400"]}
_TIMES = 30
_SMALL = 100
_ASKED = {
    "list": "list, newest",
    "one": "one, by id",
    "tail": "follow, tail",
    "start": "start",
}
_WALL, _CPU = "{} p50 ms", "{} CPU ms"
_FIRST_ANSWER = "first answer s"


@contextlib.contextmanager
def aged(folder: Path, processes: int, running: int) -> Iterator[tuple[Outlast, Client]]:
    """Serve a store with `processes` ended processes (0: an empty store) and `running` running ones."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    if processes:
        history.write(state / "outlast.db", processes)
    with outlast(state) as server, server.connected() as client:
        for _ in range(running):
            client.post("/processes", _SLEEPER)
        yield server, client


def first_answer_s(server: Outlast) -> float:
    """Kill the daemon with -9, and return the seconds from its next start to a first list, with a cold page cache."""
    server.kill()
    _forget(server.database)
    began = time.monotonic()
    server.start()
    with server.connected() as client:
        client.get("/processes?limit=10")
        return time.monotonic() - began


def _forget(database: Path) -> None:
    """Drop a file from the page cache."""
    with database.open("rb") as file:
        os.fsync(file.fileno())  # the kernel drops clean pages only
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_old(folder: Path, processes: int) -> Figures:
    """Measure a store with all processes."""
    return _run(folder, processes, processes)


def run_young(folder: Path, processes: int) -> Figures:
    """Measure a store with a short history."""
    return _run(folder, min(processes, YOUNG), processes)


def run_empty(folder: Path, processes: int) -> Figures:
    """Measure the first answer of a store that holds running processes only."""
    with aged(folder, 0, _part(RUNNING, processes)) as (server, _):
        return {_FIRST_ANSWER: first_answer_s(server)}


def _run(folder: Path, processes: int, size: int) -> Figures:
    with aged(folder, processes, _part(RUNNING, size)) as (server, client):
        known = queries(client)
        times = _part(_TIMES, size)
        took = {name: time_query(server, client, known[query], times) for name, query in _ASKED.items()}
        return {
            **{_WALL.format(name): each.wall_ms for name, each in took.items()},
            **{_CPU.format(name): each.cpu_ms for name, each in took.items()},
            _FIRST_ANSWER: first_answer_s(server),
        }


def _part(whole: int, size: int) -> int:
    """Return `whole`, or less for a small size."""
    return min(whole, size // _SMALL)


_YOUNG = f"outlast, {YOUNG:,} processes"
_EMPTY = "outlast, nothing stored"

MEASURE = Measure(
    name="history",
    title=f"{{size}} ended processes with {history.LINES_EACH} lines each, up to {RUNNING} that run: "
    f"{_TIMES} answers to each question, and the first after kill -9",
    contestants={OURS: run_old, _YOUNG: run_young, _EMPTY: run_empty},
    rows=(
        *(Row(figure=_WALL.format(name), yardstick=_YOUNG, at_most=1.5) for name in _ASKED),
        *(Row(figure=_CPU.format(name), yardstick=_YOUNG, at_most=1.5) for name in _ASKED),
        Row(figure=_FIRST_ANSWER, yardstick=_EMPTY, at_most=1.0, is_difference=True),
    ),
    size=100_000,
    smoke_size=300,
)

"""Growth with history: the same queries on ever longer histories, each ten times the one before.

    python -m bench.scale [--processes 1000 10000 ...] [--times 20]

A million processes with 100 million lines take 12 GB in the temporary folder (TMPDIR chooses where) and some minutes to
write; the steps before them, a tenth of that. One history is there at a time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from math import log
from pathlib import Path

from tabulate import tabulate

from bench import history, machine
from bench.aged_store import RUNNING, aged, first_answer_s
from bench.interrupt import end_when_interrupted
from bench.queries import queries, time_query
from bench.serving import Outlast
from bench.writers import LINE_BYTES
from harness.proc import cpu_s, pss_bytes

STEPS = (1_000, 10_000, 100_000, 1_000_000)

_GROWS_EXPONENT, _GROWS_RATIO = 0.05, 1.5
"""A figure grows if its exponent and the ratio of last to first both exceed these."""

Tables = Mapping[str, Mapping[str, float]]
"""Figures by name, by the title of their table."""


def main() -> None:
    """Measure each step, and print how each figure has grown from the first to the last."""
    end_when_interrupted()
    options = _options()
    print("\n".join(machine.describe(Path(tempfile.gettempdir()))), flush=True)
    steps: dict[int, Tables] = {}
    for processes in options.processes:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="outlast-scale-") as folder:
            steps[processes] = _measure(Path(folder), processes, options.running, options.times)
        print(f"{processes:,} processes: {time.monotonic() - began:.0f} s", flush=True)
    print(show(steps, options.running))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description="Figures that grow with history, and how fast."
    )
    parser.add_argument("--processes", type=int, nargs="+", default=STEPS, help="the steps [%(default)s]")
    parser.add_argument(
        "--running", type=int, default=RUNNING, help="running processes beside the ended ones [%(default)s]"
    )
    parser.add_argument("--times", type=int, default=20, help="repetitions of each query [%(default)s]")
    return parser.parse_args()


def _measure(folder: Path, processes: int, running: int, times: int) -> Tables:
    with aged(folder, processes, running) as (server, client):
        disk = _disk_ratio(server, processes)
        took = {name: time_query(server, client, query, times) for name, query in queries(client).items()}
        memory_mib = pss_bytes(server.pid) / (1 << 20)
        waited_s = first_answer_s(server)
        return {
            "the daemon and its file": {
                "bytes on the disk a byte of output": disk,
                "memory (PSS), MiB": memory_mib,
                "first answer after kill -9, s": waited_s,
                "first answer, processor s": cpu_s(server.pid),
            },
            "processor time of the daemon, ms an answer": {name: answer.cpu_ms for name, answer in took.items()},
            "until the answer, ms": {name: answer.wall_ms for name, answer in took.items()},
        }


def _disk_ratio(server: Outlast, processes: int) -> float:
    return server.database.stat().st_size / (processes * history.LINES_EACH * LINE_BYTES)


def show(steps: Mapping[int, Tables], running: int) -> str:
    """Make the tables: each figure at each step, the last divided by the first, and the exponent of its growth."""
    about = f"{history.LINES_EACH} lines for each ended process, half of them of one; {running} run besides"
    first = next(iter(steps.values()))
    return "\n\n".join(("", about, *(_table(table, steps) for table in first)))


def _table(name: str, steps: Mapping[int, Tables]) -> str:
    rows = [
        _row(figure, {size: tables[name][figure] for size, tables in steps.items()})
        for figure in next(iter(steps.values()))[name]
    ]
    header = (name, *(f"{size:,}" for size in steps), "last / first", "exponent", "")
    table: str = tabulate(rows, header, disable_numparse=True)
    return table


def _row(figure: str, by_size: Mapping[int, float]) -> tuple[str, ...]:
    values = list(by_size.values())
    ratio, exponent = values[-1] / values[0], growth(by_size)
    verdict = "grows" if ratio > _GROWS_RATIO and exponent > _GROWS_EXPONENT else ""
    return figure, *(f"{value:,.3g}" for value in values), f"{ratio:.2f} x", f"{exponent:+.2f}", verdict


def growth(by_size: Mapping[int, float]) -> float:
    """Return the exponent with which a figure grows: 0 if it does not grow, 1 if it is proportional to the size."""
    if len(by_size) == 1:
        return 0.0
    logs = [(log(size), log(value)) for size, value in by_size.items()]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


if __name__ == "__main__":
    main()

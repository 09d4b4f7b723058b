"""`python -m bench`: the figures that this project is held to, beside peers in the same minutes.

Everything runs in a temporary folder (TMPDIR chooses where) and on loopback, and is ended at the end.
"""

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench import flood, latency, machine, writers

T = TypeVar("T")


def main() -> None:
    """Measure, and print a table for each measure."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print("\n".join(machine.describe(Path(tempfile.gettempdir()))), flush=True)
    if options.only in (None, "flood"):
        for program in [options.program] if options.program else writers.PROGRAMS:
            _flood(flood.Flood(options.lines, program), options.rounds)
    if options.only in (None, "latency"):
        _latency(options.seconds * latency.LINES_PER_S, options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Figures beside peers. Ratios come first.")
    parser.add_argument("--only", choices=["flood", "latency"], help="one of the two [both]")
    parser.add_argument("--rounds", type=_positive, default=3, help="each peer in turn, so often [3]")
    parser.add_argument("--lines", type=_positive, default=5_000_000, help="of the flood, 96 bytes each [5000000]")
    parser.add_argument("--program", choices=list(writers.PROGRAMS), help="how they are written [each in turn]")
    parser.add_argument("--seconds", type=_positive, default=10, help="of following, 1,000 lines each [10]")
    return parser.parse_args()


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _interrupt(number: int, _frame: object) -> None:
    """End, and leave nothing running: a second Ctrl-C must not break into that."""
    signal.signal(number, lambda _number, _frame: None)
    sys.exit(128 + number)


def _flood(what: flood.Flood, rounds: int) -> None:
    seconds = _in_turn(flood.CONTESTANTS, what, rounds)
    print(
        f"\nflood: {what.lines:,} lines of {writers.LINE_BYTES} bytes, written by {what.program}, "
        f"until the last one is readable; rounds: {rounds}"
    )
    rates = {name: [what.lines / taken for taken in each] for name, each in seconds.items()}
    medians = {name: statistics.median(each) for name, each in rates.items()}
    for ours in (flood.OURS, flood.OURS_RELAXED):
        for name in (name for name in medians if name not in (flood.OURS, flood.OURS_RELAXED)):
            print(f"  {medians[ours] / medians[name]:8.2f} x  {ours} / {name}")
    _table(
        ("", "lines/s", "MB/s", "lines/s of each round"),
        (
            (name, f"{median:,.0f}", f"{median * writers.LINE_BYTES / 1e6:,.0f}", _each(rates[name]))
            for name, median in medians.items()
        ),
    )


def _latency(lines: int, rounds: int) -> None:
    delays = _in_turn(latency.CONTESTANTS, lines, rounds)
    print(
        f"\nfollow latency: {lines:,} lines at {latency.LINES_PER_S:,} lines/s, from the write to a follower's "
        f"receipt; rounds: {rounds}"
    )
    p50 = {name: statistics.median(each.p50_us for each in found) for name, found in delays.items()}
    p99 = {name: statistics.median(each.p99_us for each in found) for name, found in delays.items()}
    for name in (name for name in delays if name != latency.OURS):
        print(f"  {p50[latency.OURS] / p50[name]:8.2f} x  {latency.OURS} / {name}, p50")
        print(f"  {p99[latency.OURS] / p99[name]:8.2f} x  {latency.OURS} / {name}, p99")
    _table(
        ("", "p50 us", "p99 us", "p50 us of each round"),
        (
            (name, f"{p50[name]:,.0f}", f"{p99[name]:,.0f}", _each([each.p50_us for each in delays[name]]))
            for name in delays
        ),
    )


def _in_turn(contestants: dict[str, Callable[[Path, Any], T]], what: object, rounds: int) -> dict[str, list[T]]:
    """Run each contestant once a round: what the machine does meanwhile hits them alike."""
    results: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
                results[name].append(run(Path(folder), what))
    return results


def _each(values: list[float]) -> str:
    return "  ".join(f"{value:,.0f}" for value in values)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    for name, median, more, each in (head, *rows):
        print(f"  {name:<26}{median:>12}{more:>10}    {each}", flush=True)


if __name__ == "__main__":
    main()

"""Measures: contestants that do the same work in turn, and the rows of the table that compares them."""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OURS = "outlast"

Figures = Mapping[str, float]
"""Results of one contestant, by the figure's name (`lines/s`, `CPU s`, `p50 us`)."""

Contestant = Callable[[Path, int], Figures]
"""Function that does work of a given size in an empty folder, and ends what it started. RuntimeError: data was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A comparison, and its target if there is one.

    Attributes:
        figure: name of the figure that is compared.
        yardstick: the contestant whose figure ours is divided by; None: ours stands for itself.
        ours: the contestant that is compared.
        at_least: the target, if more is better.
        at_most: the target, if less is better.
        is_difference: the yardstick's figure is subtracted instead of divided by.
    """

    figure: str
    yardstick: str | None
    ours: str = OURS
    at_least: float | None = None
    at_most: float | None = None
    is_difference: bool = False

    @property
    def target(self) -> str:
        """Text of the target; empty if there is none."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    def is_met(self, value: float) -> bool | None:
        """Tell whether `value` meets the target; None: there is none."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Work that several contestants do in turn.

    Attributes:
        name: name for `bench --only`.
        title: description, from when until when it is measured; `{size}` stands for the size.
        contestants: contestants by name, ours first.
        rows: comparisons.
        size: amount of work.
        smoke_size: amount of work that takes seconds, for tests.
        lacks: features of ours that a contestant lacks, for the table.
        left_out: contestants that cannot run here, and why.
    """

    name: str
    title: str
    contestants: Mapping[str, Contestant]
    rows: Sequence[Row]
    size: int
    smoke_size: int
    lacks: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of all rounds of a measure, by contestant, in the order of the rounds."""

    measure: Measure
    size: int
    rounds: Mapping[str, Sequence[Figures]]

    def median(self, contestant: str, figure: str) -> float:
        """Return the median of a contestant's figure."""
        return statistics.median(figures[figure] for figures in self.rounds[contestant])

    def value(self, row: Row) -> float:
        """Return the median of what each round gives: both sides of a comparison were taken in the same minute."""
        ours = self.rounds[row.ours]
        if row.yardstick is None:
            return self.median(row.ours, row.figure)
        pairs = zip(ours, self.rounds[row.yardstick], strict=True)
        compared = ((mine[row.figure], its[row.figure]) for mine, its in pairs)
        return statistics.median(mine - its if row.is_difference else mine / its for mine, its in compared)


def run(measure: Measure, size: int, rounds: int) -> Result:
    """Run each contestant once a round, so that other load on the machine hits all alike.

    Raises:
        RuntimeError: a contestant lost something.
    """
    done: dict[str, list[Figures]] = {name: [] for name in measure.contestants}
    for _ in range(rounds):
        for name, contestant in measure.contestants.items():
            with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
                done[name].append(contestant(Path(folder), size))
    return Result(measure, size, done)

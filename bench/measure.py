"""What a measure is: contestants who do the same work in turn, and the rows of the table that compare them."""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OURS = "outlast"

Figures = Mapping[str, float]
"""What a contestant's work came to, by the figure's name (`lines/s`, `CPU s`, `p50 us`)."""

Contestant = Callable[[Path, int], Figures]
"""Does work of a given size in an empty folder and leaves nothing running. RuntimeError: something got lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A comparison, and perhaps what it is to come to.

    Attributes:
        figure: of which figure.
        yardstick: the contestant whose figure ours is divided by; None: ours stands for itself.
        ours: the contestant that is compared.
        at_least: the target, if more is better.
        at_most: the target, if less is better.
        is_difference: the yardstick's figure is not divided by, but taken away.
    """

    figure: str
    yardstick: str | None
    ours: str = OURS
    at_least: float | None = None
    at_most: float | None = None
    is_difference: bool = False

    @property
    def target(self) -> str:
        """The target in words."""
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
    """Work that several do in turn.

    Attributes:
        name: by which it is asked for.
        title: what is measured, from when until when; `{size}` stands for the size.
        contestants: who does it, ours first.
        rows: what is compared.
        size: how much there is to do.
        smoke_size: how much, to see in seconds that it works at all.
        lacks: what a contestant does not have of what ours does, for the table.
        left_out: contestants who can't take part here, and why.
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
    """What the rounds of a measure came to: of each contestant, in the order of the rounds."""

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
    """Let each contestant do the work once a round: what the machine does meanwhile hits them alike.

    Raises:
        RuntimeError: a contestant lost something.
    """
    done: dict[str, list[Figures]] = {name: [] for name in measure.contestants}
    for _ in range(rounds):
        for name, contestant in measure.contestants.items():
            with tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
                done[name].append(contestant(Path(folder), size))
    return Result(measure, size, done)

"""Whether what was sampled is flat: within one life of a daemon or a shim, from life to life, and at the end."""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

MIB = 1 << 20
WARM_UP = 1 / 3
"""Share of a life that is not judged: caches fill, and the allocator finds its size."""

_FEWEST_SAMPLES = 3
# In lives of seconds memory still finds its size.
_SHORT_LIFE_S = 60.0
_SHORT_LIFE_FACTOR = 3
# What may be added from the first third of what is judged to the last one. A leak of a kilobyte a start is far beyond
# this in ten minutes, one of a descriptor in a thousand starts, too.
_MAY_GROW: tuple[tuple[str, float], ...] = (
    (r"daemon (RSS|USS)$", 8 * MIB),
    (r"shim (RSS|USS)$", 1.5 * MIB),
    (r"(daemon|shim) memfd bytes$", 1 * MIB),
    (r"daemon objects", 60),
    (r"(daemon|shim) ", 1),
    (r"cgroups$", 1),
)
# What may never be more, when no load is on.
_AT_MOST: tuple[tuple[str, float], ...] = ((r"WAL$", 96 * MIB), (r"spool$", 0), (r"(daemon|shim) zombies$", 1))
_IDLE_AGAIN = re.compile(r"(daemon|shim) (?!RSS|USS|objects)|cgroups$|spool$")

# The event loop's pool makes a thread when work comes while all others are busy (compression beside a start), and keeps
# it: five for two processors besides the first, which is there early.
_POOLED = {"daemon threads": 5}


@dataclass(frozen=True)
class Sample:
    """All figures at one moment.

    Attributes:
        at_s: since the beginning.
        quiet: nothing but the long processes was there.
        judged: it belongs to a stretch without restarts.
    """

    at_s: float
    quiet: bool
    judged: bool
    daemon_life: int
    shim_life: int
    figures: dict[str, float]

    def life(self, figure: str) -> int:
        """Return which daemon or shim a figure is of; 0: it is of neither."""
        who = figure.split(maxsplit=1)[0]
        return {"daemon": self.daemon_life, "shim": self.shim_life}.get(who, 0)


@dataclass(frozen=True)
class Row:
    """One figure in one life.

    Attributes:
        life: which daemon or shim, or two of them ("1 to 4": how its end compares with that of the first).
        first: median of the first third of what is judged.
        last: of the last third.
        an_hour: how much it grows (Theil and Sen's slope: the median of all slopes between two samples).
        peak: under load.
        tolerated: by how much `last` may be more than `first`, or what it may be at most.
    """

    figure: str
    life: str
    samples: int
    minutes: float
    first: float
    last: float
    an_hour: float
    peak: float
    tolerated: float
    is_flat: bool


def judge(samples: Sequence[Sample]) -> list[Row]:
    """Judge each figure in each life that is long enough, and its last life against its first."""
    rows = []
    quiet = [sample for sample in samples if sample.quiet and sample.judged]
    for figure in quiet[0].figures if quiet else ():
        lives = sorted({sample.life(figure) for sample in quiet})
        found = [_row(figure, life, samples) for life in lives]
        of_figure = [row for row in found if row is not None]
        rows += of_figure
        if len(of_figure) > 1 and not figure.endswith("RSS"):  # how much of it is shared depends on who else runs
            rows.append(_across(of_figure))
    return rows


def _row(figure: str, life: int, samples: Iterable[Sample]) -> Row | None:
    mine = [sample for sample in samples if sample.life(figure) == life]
    series = [(sample.at_s, sample.figures[figure]) for sample in mine if sample.quiet and sample.judged]
    series = series[int(len(series) * WARM_UP) :]
    if len(series) < _FEWEST_SAMPLES:
        return None
    third = max(1, len(series) // 3)
    first, last = (statistics.median(value for _, value in part) for part in (series[:third], series[-third:]))
    slope = _slope(series)
    span_s = series[-1][0] - series[0][0]
    factor = _SHORT_LIFE_FACTOR if is_memory(figure) and span_s < _SHORT_LIFE_S else 1
    growth = min(last - first, slope * span_s)
    tolerated, is_flat = _tolerance(figure, growth, max(value for _, value in series), factor)
    return Row(
        figure=figure,
        life=str(life) if life else "all",
        samples=len(series),
        minutes=span_s / 60,
        first=first,
        last=last,
        an_hour=slope * 3600,
        peak=max(sample.figures.get(figure, 0.0) for sample in mine),
        tolerated=tolerated,
        is_flat=is_flat,
    )


def _across(rows: Sequence[Row]) -> Row:
    first, last = rows[0], rows[-1]
    tolerated, is_flat = _tolerance(first.figure, last.last - first.last, last.last)
    return Row(
        figure=first.figure,
        life=f"{first.life} to {last.life}",
        samples=len(rows),
        minutes=0.0,
        first=first.last,
        last=last.last,
        an_hour=0.0,
        peak=max(row.peak for row in rows),
        tolerated=tolerated,
        is_flat=is_flat,
    )


def _tolerance(figure: str, growth: float, most: float, factor: float = 1) -> tuple[float, bool]:
    for pattern, bound in _AT_MOST:
        if re.match(pattern, figure):
            return bound, most <= bound
    for pattern, bound in _MAY_GROW:
        if re.match(pattern, figure):
            return bound * factor, growth <= bound * factor
    return float("inf"), True


def _slope(series: Sequence[tuple[float, float]]) -> float:
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(series, 2))


def left_at_the_end(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Return a sentence for each figure that is higher after everything has ended than before anything started."""
    return [
        f"{name} was {before[name]:,.0f} before anything was started, and is {after[name]:,.0f} when all has ended"
        for name in before
        if _IDLE_AGAIN.match(name) and after[name] > before[name] + _POOLED.get(name, 0)
    ]


def is_memory(figure: str) -> bool:
    """Return whether a figure is in bytes."""
    return figure.endswith(("SS", "bytes", "WAL", "database", "spool"))

"""A histogram that costs little enough for the path of output: two additions and a look-up in a short list."""

from bisect import bisect_left
from collections.abc import Sequence

QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds, in seconds, for what should take milliseconds."""
DELAY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Bounds, in seconds, for what may wait for a daemon or a disk."""


class Histogram:
    """Observed values, counted between bounds.

    Attributes:
        bounds: ascending; each is the highest value that its count includes.
        counts: number of values up to each bound and above the one before; last, of those above all bounds.
        total: sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value (>= 0)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

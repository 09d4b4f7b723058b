"""Figures of the commits of this daemon."""

from collections.abc import Iterable

from outlast.core.histogram import DELAY_S, QUICK_S, Histogram
from outlast.model.clock import now_ms
from outlast.model.output import Chunk
from outlast.storage import Change


class CommitStats:
    """Number, duration and errors of commits, and the time from reading output to its commit.

    Attributes:
        commits: number of commits that succeeded.
        errors: number of commits that failed.
        duration_s: of each commit, also of one that failed.
        delay_s: of each chunk, from the shim's reading it to the answer of its commit. The clock is that of the day.
    """

    __slots__ = ("commits", "delay_s", "duration_s", "errors")

    def __init__(self) -> None:
        self.commits = 0
        self.errors = 0
        self.duration_s = Histogram(QUICK_S)
        self.delay_s = Histogram(DELAY_S)

    def count_stored(self, changes: Iterable[Change]) -> None:
        """Count what a commit has stored."""
        now = now_ms()
        observe = self.delay_s.observe
        for change in changes:
            if isinstance(change, Chunk) and change.gap is None:
                observe(max(0, now - change.ts_ms) / 1000)

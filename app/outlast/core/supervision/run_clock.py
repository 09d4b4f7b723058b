"""The times of a run by the monotonic clock, which nobody sets: waits and bounds count by it."""

import os
import time

from outlast.linux.proc import read_stat
from outlast.model.clock import now_ms
from outlast.model.output import Stream
from outlast.model.process import ExitStatus, Run

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class RunClock:
    """Start, end and last output of one run.

    What this daemon has seen is exact. Of what happened before, the kernel tells the start; the rest is estimated from
    the times of day, within what this daemon knows.

    Attributes:
        began_at: seconds of the monotonic clock.
        ended_at: likewise; None until the run has ended.
    """

    __slots__ = ("_known_since", "_output_at", "began_at", "ended_at")

    def __init__(self, run: Run, began_at: float | None, *, is_there: bool) -> None:
        """Make the clock of a run.

        Args:
            run: the run.
            began_at: when it started, if this daemon started it.
            is_there: whether its pid is still its own.
        """
        self._known_since = time.monotonic()
        self.began_at = self._known_since - _age_s(run, is_there=is_there) if began_at is None else began_at
        self.ended_at: float | None = None
        self._output_at: dict[Stream, float] = {}

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began_at

    @property
    def ran_ms(self) -> int:
        """Duration of the run until its end, or until now."""
        end = time.monotonic() if self.ended_at is None else self.ended_at
        return round((end - self.began_at) * 1000)

    def note_output(self, stream: Stream) -> None:
        """Note that the run has printed something."""
        self._output_at[stream] = time.monotonic()

    def note_end(self, ending: ExitStatus, *, was_seen: bool) -> None:
        """Note that the run has ended. `was_seen`: just now, and not before this daemon was there to see it."""
        ago_s = 0.0 if was_seen else min(_seconds_since(ending.ended_at_ms), self.age_s)
        self.ended_at = time.monotonic() - ago_s

    def silent_s(self, stream: Stream | None, last_ms: int) -> float:
        """Return for how long the run has printed nothing.

        Args:
            stream: only this stream counts; None: both.
            last_ms: time of day of the last output that is stored.
        """
        seen = [at for name, at in self._output_at.items() if stream in (None, name)]
        if seen:
            return time.monotonic() - max(seen)
        at_least_s = time.monotonic() - max(self._known_since, self.began_at)
        return min(max(_seconds_since(last_ms), at_least_s), self.age_s)


def _age_s(run: Run, *, is_there: bool) -> float:
    stat = read_stat(run.pid) if is_there else None
    if stat is None:
        return _seconds_since(run.started_at_ms)
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start_ticks / _TICKS_PER_S)


def _seconds_since(ms: int) -> float:
    return max(0, now_ms() - ms) / 1000

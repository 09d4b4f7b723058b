"""What is known of the resources of one run: its last samples and its peaks, until they are stored."""

import struct
import time
from array import array

from outlast.core.output.committer import Committer
from outlast.core.usage import procfs
from outlast.linux.cgroup import members
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage import RecordUsage

HISTORY = 120
"""How many samples are kept: ten minutes of a long run."""

LONGEST_INTERVAL_S = 5.0
_SHORTEST_INTERVAL_S = 1.0
_PSS_EVERY = 12  # samples


class _History:
    """The last samples of a run, packed: there is one for each process, and as tuples they take four times as much."""

    _row = struct.Struct(f"{len(UsageSample._fields)}q")
    _unknown = -1

    def __init__(self) -> None:
        self._numbers = array("q")

    def append(self, sample: UsageSample) -> None:
        """Add a sample, in the place of the oldest if there is no more room."""
        self._numbers.extend(self._unknown if figure is None else figure for figure in sample)
        del self._numbers[: -HISTORY * len(sample)]

    def samples(self) -> tuple[UsageSample, ...]:
        """Return them, oldest first."""
        rows = self._row.iter_unpack(self._numbers)
        return tuple(UsageSample._make(None if figure == self._unknown else figure for figure in row) for row in rows)


class UsageTrack:
    """Of one run of a live process.

    Attributes:
        loaded: what the store has of it is known, so that its history goes on.
        sampled: how often this daemon has looked at it.
        group: its control group, while that is where its processes live.
    """

    def __init__(self, group: str | None) -> None:
        self.loaded = False
        self.sampled = 0
        self.group = group
        self._seen: tuple[tuple[int, int], UsageSample] | None = None
        self._history = _History()
        self._peak = PeakUsage()
        self._carried_ms = [0, 0]
        self._next_at = 0.0
        self._changed = False
        self._submitted = False

    @property
    def wants_pss(self) -> bool:
        """Whether the next sample is one of the few with the costly figure."""
        return self.sampled % _PSS_EVERY == 0

    def is_due(self, now: float, age_s: float) -> bool:
        """Tell whether it is time for the next sample: young runs are looked at more often than old ones.

        Args:
            now: of any clock that goes forward, in seconds.
            age_s: of the run.
        """
        if age_s < _SHORTEST_INTERVAL_S or now < self._next_at:
            return False
        self._next_at = now + min(age_s, LONGEST_INTERVAL_S)
        return True

    def look(self, *, with_pss: bool) -> UsageSample | None:
        """Look at what lives in its group. None: it has none, or nothing lives there any more."""
        if self.group is None:
            return None
        cpu_us = procfs.group_cpu_us(self.group)
        if not with_pss and self._seen is not None and self._seen[0] == cpu_us:
            # Nothing of it has run since, so it has the processes, threads, files and pages that it had.
            return self._seen[1]._replace(sampled_at_ms=time.time_ns() // 1_000_000, pss_bytes=None)
        sample = procfs.measure(members(self.group), with_pss=with_pss, cpu_us=cpu_us)
        if sample is None:
            self.group = None  # it has left its group, or is just ending
        elif cpu_us is not None:
            self._seen = cpu_us, sample
        return sample

    def load(self, stored: RunUsage | None) -> None:
        """Go on from what an earlier daemon has stored."""
        if stored is not None and not self.loaded:
            later, self._history = self._history.samples(), _History()
            for sample in (*stored.history, *later):
                self._history.append(sample)
            self._peak = self._peak.raised_to(stored.peak)
        self.loaded = True

    def add(self, sample: UsageSample, *, keep: bool) -> UsageSample:
        """Take a sample up, and return it with processor times that have not fallen.

        Args:
            sample: as it was measured.
            keep: also in the history.
        """
        sample = self._carry(sample)
        self._peak = self._peak.raised_to(PeakUsage.of(sample))
        if keep:
            self.sampled += 1
            self._history.append(sample)
        self._changed = True
        return sample

    def _carry(self, sample: UsageSample) -> UsageSample:
        """Add the times of processes that have ended and that nobody of the tree has reaped."""
        before = (self._peak.cpu_user_ms or 0, self._peak.cpu_system_ms or 0)
        now = (sample.cpu_user_ms, sample.cpu_system_ms)
        for mode in range(2):
            self._carried_ms[mode] = max(self._carried_ms[mode], before[mode] - now[mode])
        return sample._replace(cpu_user_ms=now[0] + self._carried_ms[0], cpu_system_ms=now[1] + self._carried_ms[1])

    def usage(self) -> RunUsage:
        """What is known now."""
        return RunUsage(peak=self._peak, history=self._history.samples())

    def store(self, committer: Committer, handle: int, run: int) -> None:
        """Store it if it has changed, and if the store has taken what it was given before."""
        if self._changed and not self._submitted:
            self._submit(committer, handle, run)

    def finish(self, committer: Committer, handle: int, run: int) -> None:
        """The run has ended. Its group, if it has one, still tells the processor time of all that was in it."""
        if self.group is not None and (total := procfs.group_cpu_us(self.group)) is not None:
            self._peak = self._peak.raised_to(PeakUsage(cpu_user_ms=total[0] // 1000, cpu_system_ms=total[1] // 1000))
            self._changed = True
        if self._changed:
            self._submit(committer, handle, run)

    def _submit(self, committer: Committer, handle: int, run: int) -> None:
        def done(_handle: int) -> None:
            self._submitted = False

        self._changed = False
        self._submitted = True
        # Before it is loaded, its history would replace a longer one.
        usage = self.usage() if self.loaded else RunUsage(peak=self._peak)
        committer.submit(RecordUsage(handle, run, usage), done)

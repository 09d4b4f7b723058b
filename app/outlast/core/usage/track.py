"""The resource usage of one run: its latest samples and its peaks, until they are stored."""

import struct
from array import array
from collections.abc import Iterable

from outlast.core.output.committer import Committer
from outlast.core.usage import procfs
from outlast.linux.cgroup import members
from outlast.model.clock import now_ms
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage import RecordUsage

HISTORY = 120
"""Maximum samples kept of a run: the last ten minutes of a long one."""

MAX_INTERVAL_S = 5.0
_MIN_INTERVAL_S = 1.0
_PSS_EVERY = 12  # samples
_UNKNOWN = -1


class _History:
    """The latest samples of a run, packed: tuples would take four times the memory, for every live process."""

    _row = struct.Struct(f"{len(UsageSample._fields)}q")

    def __init__(self) -> None:
        self._numbers = array("q")

    def append(self, sample: UsageSample) -> None:
        """Add a sample, and drop the oldest if there are more than `HISTORY`."""
        self._numbers.extend(_UNKNOWN if figure is None else figure for figure in sample)
        del self._numbers[: -HISTORY * len(sample)]

    def samples(self) -> tuple[UsageSample, ...]:
        """Return the samples, oldest first."""
        return tuple(map(self._sample, self._row.iter_unpack(self._numbers)))

    def newest(self, count: int) -> tuple[UsageSample, ...]:
        """Return the last samples, at most `count`, oldest first."""
        length = len(UsageSample._fields)
        return tuple(map(self._sample, self._row.iter_unpack(self._numbers[-count * length :])))

    def _sample(self, figures: Iterable[int]) -> UsageSample:
        return UsageSample._make([None if figure == _UNKNOWN else figure for figure in figures])


class UsageTrack:
    """The resource usage of one run of a live process.

    Attributes:
        loaded: whether the usage that is stored already has been loaded.
        sampled: how many samples this daemon has added to the history.
        group: path of the run's cgroup; None if it has none, or its processes have left it.
        next_at: when the next sample is due, in seconds of a monotonic clock.
    """

    def __init__(self, group: str | None) -> None:
        self.loaded = False
        self.sampled = 0
        self.group = group
        self._seen: tuple[tuple[int, int], UsageSample] | None = None
        self._history = _History()
        self._peak = PeakUsage()
        self._carried_ms = [0, 0]
        self.next_at = 0.0
        self._changed = False
        self._submitted = False

    @property
    def wants_pss(self) -> bool:
        """Whether the next sample is to include the proportional set size, which is costly."""
        return self.sampled % _PSS_EVERY == 0

    def is_due(self, now: float, age_s: float) -> bool:
        """Return whether the next sample is due. A young run is sampled more often than an old one.

        Args:
            now: seconds of a monotonic clock.
            age_s: age of the run.
        """
        if age_s < _MIN_INTERVAL_S or now < self.next_at:
            return False
        self.next_at = now + min(age_s, MAX_INTERVAL_S)
        return True

    def measure_group(self, *, with_pss: bool) -> UsageSample | None:
        """Measure the processes of the run's cgroup. Return None if it has no cgroup, or nothing runs in it."""
        if self.group is None:
            return None
        cpu_us = procfs.group_cpu_us(self.group)
        if not with_pss and self._seen is not None and self._seen[0] == cpu_us:
            # None of its processes has run since, so it has the same processes, threads, files and pages.
            return self._seen[1]._replace(sampled_at_ms=now_ms(), pss_bytes=None)
        sample = procfs.measure(members(self.group), with_pss=with_pss, cpu_us=cpu_us)
        if sample is None:
            self.group = None  # its processes have left the cgroup, or are just ending
        elif cpu_us is not None:
            self._seen = cpu_us, sample
        return sample

    def load_stored(self, stored: RunUsage | None) -> None:
        """Continue the usage that an earlier daemon has stored. Only the first call has an effect."""
        if stored is not None and not self.loaded:
            later, self._history = self._history.samples(), _History()
            for sample in (*stored.history, *later):
                self._history.append(sample)
            self._peak = self._peak.raised_to(stored.peak)
        self.loaded = True

    def add_sample(self, sample: UsageSample, *, keep: bool) -> UsageSample:
        """Raise the peaks to a sample, and return it with processor times that never fall.

        Args:
            sample: the usage as it was measured.
            keep: whether to add it to the history.
        """
        sample = self._carry(sample)
        self._peak = self._peak.raised_to(PeakUsage.of(sample))
        if keep:
            self.sampled += 1
            self._history.append(sample)
        self._changed = True
        return sample

    def _carry(self, sample: UsageSample) -> UsageSample:
        """Add the processor times of ended processes that were not reaped within the tree."""
        before = (self._peak.cpu_user_ms or 0, self._peak.cpu_system_ms or 0)
        now = (sample.cpu_user_ms, sample.cpu_system_ms)
        for mode in range(2):
            self._carried_ms[mode] = max(self._carried_ms[mode], before[mode] - now[mode])
        return sample._replace(cpu_user_ms=now[0] + self._carried_ms[0], cpu_system_ms=now[1] + self._carried_ms[1])

    def latest(self) -> UsageSample | None:
        """Return the latest sample of the history."""
        return next(iter(self._history.newest(1)), None)

    def newest(self, count: int) -> tuple[UsageSample, ...]:
        """Return the latest samples of the history, at most `count`, oldest first."""
        return self._history.newest(count)

    def usage(self) -> RunUsage:
        """Return the peaks and the history so far."""
        return RunUsage(peak=self._peak, history=self._history.samples())

    def submit_if_changed(self, committer: Committer, handle: int, run: int) -> None:
        """Submit the usage if it has changed, unless an earlier submission is still queued."""
        if self._changed and not self._submitted:
            self._submit(committer, handle, run)

    def finish(self, committer: Committer, handle: int, run: int) -> None:
        """Submit the final usage of an ended run. Its cgroup, if any, still has the total processor time."""
        if self.group is not None and (total := procfs.group_cpu_us(self.group)) is not None:
            self._peak = self._peak.raised_to(PeakUsage(cpu_user_ms=total[0] // 1000, cpu_system_ms=total[1] // 1000))
            self._changed = True
        if self._changed:
            self._submit(committer, handle, run)

    def _submit(self, committer: Committer, handle: int, run: int) -> None:
        def on_stored(_handle: int) -> None:
            self._submitted = False

        self._changed = False
        self._submitted = True
        # The history may replace a longer one in the store only after that one has been loaded.
        usage = self.usage() if self.loaded else RunUsage(peak=self._peak)
        committer.submit(RecordUsage(handle, run, usage), on_stored)

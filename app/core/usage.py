"""What is known of the resources of one run: its last samples and its peaks, until they are stored."""

from collections import deque

from app.core import procfs
from app.core.committer import Committer
from app.model.usage import PeakUsage, RunUsage, UsageSample
from app.storage import RecordUsage

HISTORY = 120
"""How many samples are kept: ten minutes of a long run."""

LONGEST_INTERVAL_S = 5.0
_SHORTEST_INTERVAL_S = 1.0
_PSS_EVERY = 12  # samples


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
        self._history: deque[UsageSample] = deque(maxlen=HISTORY)
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

    def load(self, stored: RunUsage | None) -> None:
        """Go on from what an earlier daemon has stored."""
        if stored is not None and not self.loaded:
            self._history.extendleft(reversed(stored.history[-HISTORY:]))
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
        return RunUsage(peak=self._peak, history=tuple(self._history))

    def store(self, committer: Committer, handle: int, run: int) -> None:
        """Store it if it has changed, and if the store has taken what it was given before."""
        if self._changed and not self._submitted:
            self._submit(committer, handle, run)

    def finish(self, committer: Committer, handle: int, run: int) -> None:
        """The run has ended. Its group, if it has one, still tells the processor time of all that was in it."""
        if self.group is not None and (total := procfs.group_cpu_ms(self.group)) is not None:
            self._peak = self._peak.raised_to(PeakUsage(cpu_user_ms=total[0], cpu_system_ms=total[1]))
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

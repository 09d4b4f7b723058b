"""What a run takes of the machine: samples of the whole tree of its processes, and the highest of them."""

from dataclasses import dataclass
from typing import NamedTuple


class UsageSample(NamedTuple):
    """One look at all processes of a run's tree. A tuple, because a store keeps many of them as rows of JSON.

    Attributes:
        sampled_at_ms: when, in milliseconds since the epoch.
        processes: how many there were; what has ended and is not reaped yet is not counted.
        threads: of all of them.
        open_files: descriptors of all of them; None: the system did not let all be looked at.
        cpu_user_ms: processor time in user mode since the run began, that of processes that have ended included.
        cpu_system_ms: the same in the kernel.
        rss_bytes: resident memory; pages that several of them share are counted for each.
        pss_bytes: resident memory in which each shared page is divided among those who share it; None: not looked
            at in this sample, or not readable.
    """

    sampled_at_ms: int
    processes: int
    threads: int
    open_files: int | None
    cpu_user_ms: int
    cpu_system_ms: int
    rss_bytes: int
    pss_bytes: int | None


class PeakUsage(NamedTuple):
    """The highest of each figure of `UsageSample` that was seen in a run, in the same order. None: never seen."""

    processes: int | None = None
    threads: int | None = None
    open_files: int | None = None
    cpu_user_ms: int | None = None
    cpu_system_ms: int | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None

    @classmethod
    def of(cls, sample: UsageSample) -> "PeakUsage":
        """The figures of one sample."""
        return cls(*sample[1:])

    def raised_to(self, other: "PeakUsage") -> "PeakUsage":
        """Return the higher of both, figure by figure."""
        return PeakUsage(*map(_higher, self, other))


_NOTHING_SEEN = PeakUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """What is known of a run.

    Attributes:
        history: its last samples, oldest first.
    """

    peak: PeakUsage = _NOTHING_SEEN
    history: tuple[UsageSample, ...] = ()


def _higher(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)

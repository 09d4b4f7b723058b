"""Resource usage of a run: samples of its process tree, and the peaks."""

from dataclasses import dataclass
from typing import NamedTuple


class UsageSample(NamedTuple):
    """One sample of all processes of a run's tree. A tuple, because a store keeps many samples as rows of JSON.

    Attributes:
        sampled_at_ms: time of the sample, in milliseconds since the epoch.
        processes: number of processes, without zombies.
        threads: threads of all processes.
        open_files: open descriptors of all processes; None: the system did not permit to read all of them.
        cpu_user_ms: processor time in user mode since the run began, including processes that have ended.
        cpu_system_ms: the same in the kernel.
        rss_bytes: resident memory; a page that several processes share is counted for each.
        pss_bytes: resident memory in which a shared page is divided among the processes that share it; None: not
            measured in this sample, or not readable.
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
    """Highest value of each figure of `UsageSample` in a run, in the same order. None: never measured."""

    processes: int | None = None
    threads: int | None = None
    open_files: int | None = None
    cpu_user_ms: int | None = None
    cpu_system_ms: int | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None

    @classmethod
    def of(cls, sample: UsageSample) -> "PeakUsage":
        """Return the figures of one sample."""
        return cls(*sample[1:])

    def raised_to(self, other: "PeakUsage") -> "PeakUsage":
        """Return the higher value of each figure."""
        return PeakUsage(*map(_higher, self, other))


_NOTHING_SEEN = PeakUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """Usage of a run: its peaks, and its last samples.

    Attributes:
        peak: highest value of each figure.
        history: last samples, oldest first.
    """

    peak: PeakUsage = _NOTHING_SEEN
    history: tuple[UsageSample, ...] = ()


def _higher(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)

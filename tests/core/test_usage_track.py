import gc
import os
import tracemalloc
from pathlib import Path

from outlast.core.usage.track import HISTORY, MAX_INTERVAL_S, UsageTrack
from outlast.model.usage import PeakUsage, RunUsage, UsageSample


def sample(number: int, *, user_ms: int = 0, system_ms: int = 0, pss_bytes: int | None = None) -> UsageSample:
    return UsageSample(number, 1, 1, 3, user_ms, system_ms, 1000 - number, pss_bytes)


def test_processor_time_never_falls() -> None:
    track = UsageTrack(None)
    measured = [(100, 10), (30, 10), (50, 5), (40, 15), (60, 15)]
    seen = [track.add_sample(sample(n, user_ms=u, system_ms=s), keep=True) for n, (u, s) in enumerate(measured)]
    assert [one.cpu_user_ms for one in seen] == [100, 100, 120, 120, 140]
    assert [one.cpu_system_ms for one in seen] == [10, 10, 10, 20, 20]
    assert track.usage().peak.cpu_user_ms == 140


def test_processor_time_continues_from_the_stored_usage() -> None:
    track = UsageTrack(None)
    track.load_stored(RunUsage(peak=PeakUsage(cpu_user_ms=500, cpu_system_ms=5), history=(sample(1, user_ms=500),)))
    assert track.add_sample(sample(2, user_ms=70, system_ms=9), keep=True).cpu_user_ms == 500
    assert track.add_sample(sample(3, user_ms=90, system_ms=9), keep=False).cpu_user_ms == 520
    assert [one.sampled_at_ms for one in track.usage().history] == [1, 2]
    track.load_stored(RunUsage(history=(sample(0),)))  # only the first call counts
    assert [one.sampled_at_ms for one in track.usage().history] == [1, 2]


def full_track() -> UsageTrack:
    """Return a track with three samples more than its history holds; only the first has a `pss_bytes`."""
    track = UsageTrack(None)
    for number in range(HISTORY + 3):
        track.add_sample(sample(number, pss_bytes=7 if number == 0 else None), keep=True)
    return track


def test_a_history_is_bounded() -> None:
    assert [one.sampled_at_ms for one in full_track().usage().history] == list(range(3, HISTORY + 3))


def test_peaks_outlast_the_history() -> None:
    peak = full_track().usage().peak
    assert (peak.rss_bytes, peak.pss_bytes) == (1000, 7)


def test_young_runs_are_sampled_more_often() -> None:
    track = UsageTrack(None)
    due = [second for second in range(30) if track.is_due(1000.0 + second, second)]
    assert due == [1, 2, 4, 8, 13, 18, 23, 28]
    assert MAX_INTERVAL_S == 5.0


def test_the_proportional_set_size_is_measured_rarely() -> None:
    track = UsageTrack(None)
    wanted = []
    for number in range(30):
        wanted.append(track.wants_pss)
        track.add_sample(sample(number), keep=True)
        track.add_sample(sample(number), keep=False)
    assert [number for number, wants in enumerate(wanted) if wants] == [0, 12, 24]


def test_the_history_of_an_idle_process_is_small() -> None:
    tracks = [UsageTrack(None) for _ in range(10)]
    tracemalloc.start()
    for number in range(2 * HISTORY):
        for track in tracks:
            track.add_sample(sample(1_700_000_000_000 + number, user_ms=1000 + number, pss_bytes=1 << 20), keep=True)
    gc.collect()  # this also frees the interpreter's cache of tuples
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < len(tracks) * 12 << 10
    assert len(tracks[0].usage().history) == HISTORY


def test_a_group_that_has_not_run_is_not_measured_again(tmp_path: Path) -> None:
    """The group is a plain folder here: in a real one, something may run at any time."""

    def tell(user_us: int, pids: tuple[int, ...]) -> None:
        (tmp_path / "cpu.stat").write_text(f"usage_usec {user_us}\nuser_usec {user_us}\nsystem_usec 5000\n")
        (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def look(*, with_pss: bool = False) -> tuple[int, int, bool]:
        seen = track.measure_group(with_pss=with_pss)
        assert seen is not None
        return seen.processes, seen.cpu_user_ms, seen.pss_bytes is not None

    track = UsageTrack(str(tmp_path))
    tell(7000, (os.getpid(),))
    assert look(with_pss=True) == (1, 7, True)
    tell(7000, (os.getpid(), os.getppid()))
    assert look() == (1, 7, False)
    tell(7001, (os.getpid(), os.getppid()))
    assert look() == (2, 7, False)
    tell(7001, (os.getpid(),))
    assert look() == (2, 7, False)
    assert look(with_pss=True) == (1, 7, True)
    tell(8000, ())
    assert track.measure_group(with_pss=False) is None
    assert track.group is None

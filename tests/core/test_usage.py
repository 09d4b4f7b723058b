from app.core.usage import HISTORY, LONGEST_INTERVAL_S, UsageTrack
from app.model.usage import PeakUsage, RunUsage, UsageSample


def sample(number: int, *, user_ms: int = 0, system_ms: int = 0, pss_bytes: int | None = None) -> UsageSample:
    return UsageSample(number, 1, 1, 3, user_ms, system_ms, 1000 - number, pss_bytes)


def test_processor_time_never_falls() -> None:
    track = UsageTrack(None)
    measured = [(100, 10), (30, 10), (50, 5), (40, 15), (60, 15)]
    seen = [track.add(sample(n, user_ms=u, system_ms=s), keep=True) for n, (u, s) in enumerate(measured)]
    assert [one.cpu_user_ms for one in seen] == [100, 100, 120, 120, 140]
    assert [one.cpu_system_ms for one in seen] == [10, 10, 10, 20, 20]
    assert track.usage().peak.cpu_user_ms == 140


def test_processor_time_goes_on_from_what_is_stored() -> None:
    track = UsageTrack(None)
    track.load(RunUsage(peak=PeakUsage(cpu_user_ms=500, cpu_system_ms=5), history=(sample(1, user_ms=500),)))
    assert track.add(sample(2, user_ms=70, system_ms=9), keep=True).cpu_user_ms == 500
    assert track.add(sample(3, user_ms=90, system_ms=9), keep=False).cpu_user_ms == 520
    assert [one.sampled_at_ms for one in track.usage().history] == [1, 2]
    track.load(RunUsage(history=(sample(0),)))  # once is enough
    assert [one.sampled_at_ms for one in track.usage().history] == [1, 2]


def test_a_history_is_bounded_and_peaks_are_not_forgotten() -> None:
    track = UsageTrack(None)
    for number in range(HISTORY + 3):
        track.add(sample(number, pss_bytes=7 if number == 0 else None), keep=True)
    usage = track.usage()
    assert [one.sampled_at_ms for one in usage.history] == list(range(3, HISTORY + 3))
    assert (usage.peak.rss_bytes, usage.peak.pss_bytes) == (1000, 7)


def test_young_runs_are_looked_at_more_often() -> None:
    track = UsageTrack(None)
    due = [second for second in range(30) if track.is_due(1000.0 + second, second)]
    assert due == [1, 2, 4, 8, 13, 18, 23, 28]
    assert LONGEST_INTERVAL_S == 5.0


def test_the_costly_figure_is_rare() -> None:
    track = UsageTrack(None)
    wanted = []
    for number in range(30):
        wanted.append(track.wants_pss)
        track.add(sample(number), keep=True)
        track.add(sample(number), keep=False)
    assert [number for number, wants in enumerate(wanted) if wants] == [0, 12, 24]

from typing import Any

import pytest

from outlast.api.handlers.stats import process_stats
from outlast.api.schemas.responses import ProcessStats
from outlast.core.views import UsageView
from outlast.model.usage import PeakUsage, RunUsage, UsageSample

from .server import Server
from .stub import ULID, StubManager, view

STARTED_MS = 1710000000000


def sample(after_ms: int, user_ms: int, system_ms: int = 0, pss_bytes: int | None = None) -> UsageSample:
    return UsageSample(STARTED_MS + after_ms, 2, 3, None, user_ms, system_ms, 4096, pss_bytes)


def usage(*history: UsageSample, current: UsageSample | None = None, run: int = 1) -> UsageView:
    known = RunUsage(peak=PeakUsage(rss_bytes=5), history=history)
    return UsageView(process=view().process, run=run, current=current, usage=known)


def percents(shown: dict[str, Any]) -> list[float | None]:
    return [one["cpu"]["percent"] for one in shown["history"]]


async def test_stats_are_shown(server: Server, manager: StubManager) -> None:
    manager.usage = usage(sample(1000, 200), sample(6000, 5200, 2500), current=sample(7000, 5250, 2500, 77))
    got = await server.ask("GET", "/api/v1/processes/42/stats?run=3")
    assert got.status == 200
    assert manager.calls == [("stats", "42", 3)]
    assert ProcessStats().validate(got.json) == {}
    assert (got.json["id"], got.json["pid"], got.json["run"]) == (ULID, 42, 1)
    assert got.json["current"] == {
        "sampled_at": STARTED_MS + 7000,
        "processes": 2,
        "threads": 3,
        "open_files": None,
        "cpu": {"user_ms": 5250, "system_ms": 2500, "percent": 5.0},
        "memory": {"rss_bytes": 4096, "pss_bytes": 77},
    }
    assert percents(got.json) == [20.0, 150.0]
    assert got.json["peak"] == {
        "processes": None,
        "threads": None,
        "open_files": None,
        "cpu": {"user_ms": None, "system_ms": None},
        "memory": {"rss_bytes": 5, "pss_bytes": None},
    }


async def test_a_process_without_samples_has_null_stats(server: Server, manager: StubManager) -> None:
    manager.usage = usage()
    got = await server.ask("GET", "/api/v1/processes/42/stats")
    assert (got.json["current"], got.json["history"]) == (None, [])
    assert manager.calls == [("stats", "42", None)]
    assert ProcessStats().validate(got.json) == {}


def test_a_share_is_not_calculated_over_a_moment() -> None:
    shown = process_stats(usage(sample(1000, 100), sample(5000, 2100), current=sample(5001, 2110)))
    assert shown["current"]["cpu"]["percent"] == 50.2
    assert process_stats(usage(current=sample(100, 10)))["current"]["cpu"]["percent"] == 10.0


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (usage(sample(1000, 10), sample(900, 20), sample(1900, 30)), [1.0, None, 1.0]),  # the clock was set back
        (usage(sample(1000, 10), sample(2000, 20), run=2), [None, 1.0]),  # nobody says when that run began
    ],
)
def test_an_unknown_share_is_null(view: UsageView, expected: list[float | None]) -> None:
    assert percents(process_stats(view)) == expected

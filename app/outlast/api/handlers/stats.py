"""The resource use of process trees, as JSON-ready dictionaries, and the handler that shows it."""

from typing import Any

from aiohttp import web

from outlast.api import app_keys
from outlast.api.handlers.serializers import process_info
from outlast.api.parsing import RequestInput
from outlast.api.route import json_response, ref_of
from outlast.core.views import ProcessView, UsageView
from outlast.model.process import Run
from outlast.model.usage import PeakUsage, UsageSample

_SHORTEST_MS = 500
"""Minimum time between two samples that a percentage is computed from: CPU time counts in ticks of 10 ms."""


async def stats(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}/stats."""
    run: int | None = given.query
    return json_response(process_stats(await request.app[app_keys.MANAGER].stats(ref_of(request), run)))


def process_stats(view: UsageView) -> dict[str, Any]:
    """Return resource use as `responses.ProcessStats` describes it."""
    process, history = view.process, view.usage.history
    before = [_first_sample(view), *history]
    return {
        "id": process.spec.id,
        "pid": process.run.pid,
        "run": view.run,
        "current": None if view.current is None else _sample(view.current, _earlier_sample(view.current, before)),
        "peak": _peak(view.usage.peak),
        "history": [_sample(sample, earlier) for earlier, sample in zip(before, history, strict=False)],
    }


def listed_with_usage(view: ProcessView) -> dict[str, Any]:
    """Return a process as `responses.ListedProcess` describes it, with its usage."""
    before = [_zeros(view.process.run), *view.samples]
    usage = _sample(before[-1], before[-2]) if view.samples else None
    return {**process_info(view), "usage": usage}


def _first_sample(view: UsageView) -> UsageSample | None:
    """Return the sample of zeros at the start of the run. None: the start of an earlier run is not known."""
    run = view.process.run
    return _zeros(run) if run.number == view.run else None


def _zeros(run: Run) -> UsageSample:
    return UsageSample(run.started_at_ms, 0, 0, 0, 0, 0, 0, None)


def _earlier_sample(sample: UsageSample, earlier: list[UsageSample | None]) -> UsageSample | None:
    """Return the latest sample at least `_SHORTEST_MS` before `sample`, else the earliest."""
    for one in reversed(earlier):
        if one is not None and one.sampled_at_ms <= sample.sampled_at_ms - _SHORTEST_MS:
            return one
    return earlier[0]


def _sample(sample: UsageSample, earlier: UsageSample | None) -> dict[str, Any]:
    return {
        "sampled_at": sample.sampled_at_ms,
        "processes": sample.processes,
        "threads": sample.threads,
        "open_files": sample.open_files,
        "cpu": {
            "user_ms": sample.cpu_user_ms,
            "system_ms": sample.cpu_system_ms,
            "percent": _percent(sample, earlier),
        },
        "memory": {"rss_bytes": sample.rss_bytes, "pss_bytes": sample.pss_bytes},
    }


def _percent(sample: UsageSample, earlier: UsageSample | None) -> float | None:
    if earlier is None or sample.sampled_at_ms <= earlier.sampled_at_ms:  # the clock was set back
        return None
    used_ms = sample.cpu_user_ms + sample.cpu_system_ms - earlier.cpu_user_ms - earlier.cpu_system_ms
    return round(100 * used_ms / (sample.sampled_at_ms - earlier.sampled_at_ms), 1)


def _peak(peak: PeakUsage) -> dict[str, Any]:
    return {
        "processes": peak.processes,
        "threads": peak.threads,
        "open_files": peak.open_files,
        "cpu": {"user_ms": peak.cpu_user_ms, "system_ms": peak.cpu_system_ms},
        "memory": {"rss_bytes": peak.rss_bytes, "pss_bytes": peak.pss_bytes},
    }

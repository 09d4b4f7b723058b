"""Series of the daemon, the store, the shim, and of all processes together."""

from collections.abc import Sequence

from outlast.api.metrics import families
from outlast.api.metrics.exposition import Exposition, Labels, labels
from outlast.api.metrics.http_stats import HttpStats
from outlast.core.metrics import DaemonFigures
from outlast.linux.own_usage import OwnUsage
from outlast.model.output import GapReason, Stream
from outlast.model.process import Reason
from outlast.model.retention import Rule
from outlast.model.totals import NO_LABEL, Counted, StartResult, StoreFigures, Totals

_STORED_GAPS = [reason for reason in GapReason if reason is not GapReason.RETENTION]
_PROCESS_RULES = [Rule.ENDED_S, Rule.ENDED]
_OUTPUT_RULES = [Rule.OUTPUT_S, Rule.PROCESS_BYTES, Rule.TOTAL_BYTES, *_PROCESS_RULES]


def add_daemon(exposition: Exposition, version: str, usage: OwnUsage, started_at_s: float) -> None:
    """Add what every program tells of itself."""
    exposition.add_all(families.BUILD_INFO, {labels(version=version): 1})
    exposition.add(families.CPU, usage.cpu_s)
    exposition.add(families.VIRTUAL_MEMORY, usage.virtual_bytes)
    exposition.add(families.RESIDENT_MEMORY, usage.resident_bytes)
    exposition.add(families.START_TIME, started_at_s)
    exposition.add(families.THREADS, usage.threads)
    exposition.add(families.OPEN_FDS, usage.open_files)
    exposition.add(families.MAX_FDS, usage.most_files)


def add_http(exposition: Exposition, stats: HttpStats) -> None:
    """Add the requests."""
    exposition.add_all(
        families.HTTP_REQUESTS,
        {
            labels(method=method, route=route, code=str(code)): count
            for (method, route, code), count in stats.answers.items()
        },
    )
    exposition.add_histograms(
        families.HTTP_DURATION,
        (
            (labels(method=method, route=route), histogram)
            for (method, route), histogram in list(stats.duration_s.items())
        ),
    )


def add_figures(exposition: Exposition, figures: DaemonFigures) -> None:
    """Add what the core tells."""
    exposition.add_all(
        families.FOLLOWERS,
        {labels(of="output"): figures.output_followers, labels(of="events"): figures.event_followers},
    )
    _add_store(exposition, figures)
    _add_shim(exposition, figures)
    exposition.add_all(
        families.PROCESSES,
        {
            labels(status="running"): figures.running,
            labels(status="backing_off"): figures.backing_off,
            labels(status="ended"): max(0, figures.processes - figures.running - figures.backing_off),
        },
    )
    exposition.add_histograms(families.CAPTURE_DELAY, [("", figures.commits.delay_s)])
    exposition.add(families.UNSTORED, figures.unstored_bytes)
    refused = {labels(result="refused"): figures.refused_starts}
    _add_totals(exposition, figures.store.totals if figures.store is not None else None, refused)


def _add_store(exposition: Exposition, figures: DaemonFigures) -> None:
    exposition.add(families.STORE_UP, int(figures.store_works and figures.store is not None))
    exposition.add(families.COMMITS, figures.commits.commits)
    exposition.add(families.COMMIT_ERRORS, figures.commits.errors)
    exposition.add_histograms(families.COMMIT_DURATION, [("", figures.commits.duration_s)])
    store = figures.store or StoreFigures()
    sizes = {"database": store.database_bytes, "log": store.log_bytes, "spool": figures.spool_bytes}
    exposition.add_all(
        families.STORE_BYTES, {labels(part=part): size for part, size in sizes.items() if size is not None}
    )
    exposition.add(families.STORE_FREE, store.free_bytes)
    exposition.add(families.FILESYSTEM_FREE, figures.filesystem_free_bytes)
    if store.oldest_output_ms is not None:
        exposition.add(families.OLDEST_OUTPUT, store.oldest_output_ms / 1000)


def _add_shim(exposition: Exposition, figures: DaemonFigures) -> None:
    exposition.add(families.SHIM_UP, int(figures.shim_works))
    exposition.add(families.SHIM_RESTARTS, figures.shim_restarts)
    if figures.shim is not None:
        exposition.add_all(
            families.SHIM_BUFFERED,
            {labels(where="memory"): figures.shim.memory_bytes, labels(where="spool"): figures.shim.spool_bytes},
        )
        exposition.add(families.BLOCKED, figures.shim.blocked)


def _add_totals(exposition: Exposition, totals: Totals | None, refused: dict[Labels, int]) -> None:
    """Add what the store has counted; None: it cannot be read. A total that is 0 is told, too, so that it can rise."""
    if totals is None:
        exposition.add_all(families.STARTS, refused)
        return
    streams = [stream.word for stream in Stream]
    starts = _by_label(totals, Counted.STARTS, "result", list(StartResult))
    exposition.add_all(families.STARTS, {**starts, **refused})
    exposition.add(families.RESTARTS, totals.get((Counted.RESTARTS, NO_LABEL), 0))
    exposition.add_all(families.ENDS, _by_label(totals, Counted.ENDS, "reason", list(Reason)))
    exposition.add_all(families.OUTPUT_BYTES, _by_label(totals, Counted.OUTPUT_BYTES, "stream", streams))
    exposition.add_all(families.OUTPUT_LINES, _by_label(totals, Counted.OUTPUT_LINES, "stream", streams))
    exposition.add_all(families.GAPS, _by_label(totals, Counted.GAPS, "reason", _STORED_GAPS))
    exposition.add_all(families.RETENTION_BYTES, _by_label(totals, Counted.REMOVED_BYTES, "rule", _OUTPUT_RULES))
    exposition.add_all(
        families.RETENTION_PROCESSES, _by_label(totals, Counted.REMOVED_PROCESSES, "rule", _PROCESS_RULES)
    )


def _by_label(totals: Totals, counted: Counted, label: str, values: Sequence[str]) -> dict[Labels, int]:
    return {labels(**{label: str(value)}): totals.get((counted, value), 0) for value in values}

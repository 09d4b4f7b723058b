"""Statuses of the declared processes: which runs, which waits for what, and which never can start."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from outlast.core.managed.decisions import how_ended
from outlast.core.projects.entries import Entry
from outlast.core.views import ProcessView
from outlast.model.managed import Desired
from outlast.model.project import DeclaredStatus as Status
from outlast.model.project import Need

_RUNS = {Status.RUNNING, Status.STARTING, Status.HEALTHY}
_OVER = {Status.COMPLETED, Status.FAILED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Status of a declared process, and why it has it; empty: that is plain."""

    status: Status
    reason: str = ""
    is_due: bool = False
    """Whether all that it waits for holds, and nothing but its own start is missing."""


def is_over(view: ProcessView) -> bool:
    """Return whether a managed process has ended for good."""
    managed = view.process.managed
    return view.process.run.ending is not None and (managed is None or managed.desired is Desired.STOPPED)


def succeeded(view: ProcessView) -> bool:
    """Return whether the last run of a process has ended as it should."""
    ending, options = view.process.run.ending, view.process.spec.options
    return ending is not None and ending.exit_code in (0, *options.success_exit_codes)


def outcomes(entries: Mapping[str, Entry], views: Mapping[str, ProcessView]) -> dict[str, Outcome]:
    """Return the outcome of each declared process, by its short name. `views`: their processes, by id."""
    found: dict[str, Outcome] = {}
    order = TopologicalSorter({name: entry.needs for name, entry in entries.items()}).static_order()
    for name in order:
        if name in entries:
            found[name] = _outcome(entries[name], views, entries, found)
    return {name: found[name] for name in entries}


def _outcome(
    entry: Entry, views: Mapping[str, ProcessView], entries: Mapping[str, Entry], found: Mapping[str, Outcome]
) -> Outcome:
    if entry.disabled:
        return Outcome(Status.DISABLED)
    if not entry.wanted:
        return Outcome(Status.STOPPED)
    if entry.process_id is not None and not entry.again:
        view = views.get(entry.process_id)
        status = _status_of(entry, view)
        return Outcome(status, how_ended(view.process.run.ending) if view and status is Status.FAILED else "")
    if entry.error is not None:
        return Outcome(Status.FAILED, entry.error)
    waits = [_wait(other, need, entries.get(other), found.get(other)) for other, need in entry.needs.items()]
    for status in (Status.SKIPPED, Status.WAITING):
        for wait in waits:
            if wait is not None and wait.status is status:
                return wait
    return Outcome(Status.WAITING, "for its own start", is_due=True)


def _status_of(entry: Entry, view: ProcessView | None) -> Status:
    if view is None:  # it was purged
        return Status.COMPLETED
    if is_over(view):
        return Status.COMPLETED if succeeded(view) else Status.FAILED
    if not entry.has_check:
        return Status.RUNNING
    managed, run = view.process.managed, view.process.run
    is_healthy = managed is not None and managed.is_healthy_in(run.number) and run.ending is None
    return Status.HEALTHY if is_healthy else Status.STARTING


def _wait(name: str, need: Need, entry: Entry | None, outcome: Outcome | None) -> Outcome | None:
    """Return why a need does not hold: not yet, or never; None: it holds."""
    if entry is None or outcome is None:
        return Outcome(Status.SKIPPED, f"{name} is declared no more")
    status = outcome.status
    is_started = status in _RUNS or (status in _OVER and entry.process_id is not None)
    holds = {
        Need.STARTED: is_started,
        Need.HEALTHY: status is Status.HEALTHY,
        Need.LOG_READY: status is Status.HEALTHY,
        Need.COMPLETED: status in _OVER and is_started,
        Need.COMPLETED_SUCCESSFULLY: status is Status.COMPLETED,
    }[need]
    if holds:
        return None
    if status is Status.WAITING or status in _RUNS:
        return Outcome(Status.WAITING, f"for {name} to be {need.replace('_', ' ')}")
    return Outcome(Status.SKIPPED, f"{name} is {status}, and cannot be {need.replace('_', ' ')} any more")


def dependents(name: str, entries: Mapping[str, Entry]) -> list[str]:
    """Return the short names of those that wait for a declared process."""
    return [other for other, entry in entries.items() if name in entry.needs]

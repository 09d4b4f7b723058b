"""A project: processes that are declared together, and what each waits for."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

PROJECT_TAG = "project"
"""Tag of every process of a project: its value is the project's name."""


class Need(StrEnum):
    """Condition of another process for which a declared process waits.

    `STARTED`: it has been started. `HEALTHY`: its health check has succeeded. `LOG_READY`: it has printed the line of
    its `ready_log`. `COMPLETED`: it has ended for good. `COMPLETED_SUCCESSFULLY`: so, with exit code 0 or one of its
    `success_exit_codes`.
    """

    STARTED = "started"
    HEALTHY = "healthy"
    LOG_READY = "log_ready"
    COMPLETED = "completed"
    COMPLETED_SUCCESSFULLY = "completed_successfully"


class DeclaredStatus(StrEnum):
    """Status of a declared process.

    `WAITING`: for another process, or for its own start. `STARTING`: it runs, and its check or `ready_log` has not
    succeeded yet. `RUNNING`: it runs, and has neither. `COMPLETED` and `FAILED`: it has ended for good, or could not be
    started. `SKIPPED`: what it waits for cannot come any more. `STOPPED`: it is not to run.
    """

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    HEALTHY = "healthy"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    DISABLED = "disabled"


def find_cycle(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Return names of which each waits for the next, and the last is the first again; empty: there is no cycle."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as exc:
        return list(reversed(exc.args[1]))  # each of them stands before the one that waits for it
    return []

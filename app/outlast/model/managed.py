"""State of a managed process: whether it should run, and how often it has failed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from outlast.model.exit_status import ExitStatus, Reason


class Desired(StrEnum):
    """Whether a managed process should run. `STOPPED`: it stays stopped until a client restarts it."""

    RUNNING = "running"
    STOPPED = "stopped"


class ManagedStatus(StrEnum):
    """Status of a managed process in the API."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


class HealthStatus(StrEnum):
    """Result of the health checks of the current run. `DISABLED`: the process has no health check."""

    DISABLED = "disabled"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedState:
    """The part of a managed process that outlives the daemon, so that the next daemon continues where this one stopped.

    Attributes:
        desired: whether the process should run.
        failures: restarts since a run last lasted a stable minute.
        decided_run: number of the last run whose end was acted upon; 0 before the first.
        next_restart_at_ms: when the run after `decided_run` is due; None if no restart is scheduled.
        restart_due: the same by the monotonic clock: the kernel's boot id, and milliseconds.
        last_error: why the process could not be started, or is not restarted.
        last_exit: how `decided_run` ended.
        health_run: number of the run that `health` and `health_failures` belong to.
        health: result of the checks; None before the first result.
        health_failures: consecutive failed checks.
        replaced_run: number of the run that a call replaces by another one, which is begun and not done; 0: none.
        wanted: the specification of that one, as a record, if it is another; None: the same as that of the last run.
        or_stopped: whether the process stays stopped if `wanted` cannot be started, as it was before the call.
    """

    desired: Desired = Desired.RUNNING
    failures: int = 0
    decided_run: int = 0
    next_restart_at_ms: int | None = None
    restart_due: tuple[str, int] | None = None
    last_error: str | None = None
    last_exit: ExitStatus | None = None
    health_run: int = 0
    health: HealthStatus | None = None
    health_failures: int = 0
    replaced_run: int = 0
    wanted: Mapping[str, Any] | None = None
    or_stopped: bool = False

    def is_healthy_in(self, run_number: int) -> bool:
        """Return whether a run is healthy by its check or its output, as far as the end of the run is not known."""
        return self.health is HealthStatus.HEALTHY and self.health_run == run_number

    def to_record(self) -> dict[str, Any]:
        """Return the state as a JSON-ready dictionary, which `from_record` reads."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ManagedState":
        """Return the state that `to_record` wrote."""
        parts = dict(record)
        if exited := parts.get("last_exit"):
            parts["last_exit"] = ExitStatus(**{**exited, "reason": Reason(exited["reason"])})
        if due := parts.get("restart_due"):
            parts["restart_due"] = tuple(due)
        if health := parts.get("health"):
            parts["health"] = HealthStatus(health)
        return cls(**{**parts, "desired": Desired(parts.get("desired", Desired.RUNNING))})

"""What is remembered of a process that is looked after: whether it is to run, and how often it has failed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from outlast.model.exit_status import ExitStatus, Reason


class Desired(StrEnum):
    """Whether a managed process is started again when it ends. `STOPPED`: for good, unless somebody asks."""

    RUNNING = "running"
    STOPPED = "stopped"


class ManagedStatus(StrEnum):
    """What is being done for a managed process, as the API tells it."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


class HealthStatus(StrEnum):
    """What the health checks of the current run have said. `DISABLED`: there are none."""

    DISABLED = "disabled"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedState:
    """What must outlive the daemon so that the next one goes on where it was.

    Attributes:
        desired: whether it is to run.
        failures: how many times it was started again since it last ran for a stable minute.
        decided_run: number of the run whose end has been acted upon; 0 before the first.
        next_restart_at_ms: when the run after `decided_run` is due; None: none is.
        last_error: why it could not be started, or is not started again.
        last_exit: how `decided_run` ended.
        health_run: number of the run that the next two are about.
        health: None until a check has said something.
        health_failures: of the checks, one after the other.
    """

    desired: Desired = Desired.RUNNING
    failures: int = 0
    decided_run: int = 0
    next_restart_at_ms: int | None = None
    last_error: str | None = None
    last_exit: ExitStatus | None = None
    health_run: int = 0
    health: HealthStatus | None = None
    health_failures: int = 0

    def to_record(self) -> dict[str, Any]:
        """Return what `from_record` reads, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ManagedState":
        """Read back what `to_record` made."""
        parts = dict(record)
        if exited := parts.get("last_exit"):
            parts["last_exit"] = ExitStatus(**{**exited, "reason": Reason(exited["reason"])})
        if health := parts.get("health"):
            parts["health"] = HealthStatus(health)
        return cls(**{**parts, "desired": Desired(parts.get("desired", Desired.RUNNING))})

"""Exit status of a run, and the status that the API shows for it."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Status of a run in the API. Exactly these four: the official Python client rejects any other."""

    RUNNING = "running"
    EXITED = "exited"
    SIGNALED = "signaled"
    OOM_KILLED = "oom_killed"


class Reason(StrEnum):
    """Reason why a run ended. `LOST`: nobody can know how it ended; no exit code is guessed."""

    EXITED = "exited"
    SIGNALED = "signaled"
    OOM_KILLED = "oom_killed"
    TIMED_OUT = "timed_out"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """Exit status of a run. At most one of `exit_code` and `signal` is set; neither if the run is lost."""

    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    ended_at_ms: int

    def __post_init__(self) -> None:
        if self.exit_code is not None and self.signal is not None:
            raise ValueError("a run ends with an exit code or by a signal, not both")
        if self.reason is Reason.LOST and (self.exit_code is not None or self.signal is not None):
            raise ValueError("a lost run has neither an exit code nor a signal")

    @property
    def exit_number(self) -> int | None:
        """The exit code, or the negative number of the signal. None: the run is lost."""
        return -self.signal if self.signal is not None else self.exit_code

    @property
    def status(self) -> Status:
        """The status that the API shows."""
        if self.reason is Reason.OOM_KILLED:
            return Status.OOM_KILLED
        return Status.SIGNALED if self.signal is not None else Status.EXITED

"""What the calls of the core answer with."""

from dataclasses import dataclass

from outlast.model.process import Process
from outlast.model.usage import RunUsage, UsageSample


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """A process as the store knows it, and what only the shim knows.

    Attributes:
        stdin_writable: its standard input is an open pipe.
        starting: a managed process's next run is just beginning.
    """

    process: Process
    stdin_writable: bool
    starting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOutcome:
    """A process that was asked for. Not `created`: it was there before, under the same `idempotency_key`."""

    view: ProcessView
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageView:
    """What a run takes now (None: it has ended, or can't be looked at) and what it took."""

    process: Process
    run: int
    current: UsageSample | None
    usage: RunUsage

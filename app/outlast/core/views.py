"""Results that the core's calls return."""

from dataclasses import dataclass

from outlast.model.process import Process
from outlast.model.usage import RunUsage, UsageSample


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """A process as the store knows it, and what only this daemon knows of it.

    Attributes:
        stdin_writable: whether its standard input is an open pipe.
        starting: whether its next run (of a managed process) is being started now.
        warning: what a kill could not do, and what to do about it.
        samples: if they were asked for: the latest samples of the resources that its run uses, two at most.
    """

    process: Process
    stdin_writable: bool
    starting: bool = False
    warning: str | None = None
    samples: tuple[UsageSample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOutcome:
    """The process that a start returns. Not `created`: it existed already, under the same `idempotency_key`."""

    view: ProcessView
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOutcome:
    """The process that was given a specification. Not `changed`: it had it already."""

    view: ProcessView
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageView:
    """The resources of one run: `usage` so far, and `current` (None: the run has ended, or cannot be measured)."""

    process: Process
    run: int
    current: UsageSample | None
    usage: RunUsage

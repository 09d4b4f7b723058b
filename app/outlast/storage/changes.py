"""The changes that a commit makes."""

from dataclasses import dataclass

from outlast.model.event import EventType, PurgeReason
from outlast.model.managed import ManagedState
from outlast.model.output import Chunk
from outlast.model.process import ExitStatus, ProcessSpec, Run
from outlast.model.resize import Resize
from outlast.model.retention import Rule
from outlast.model.usage import RunUsage


@dataclass(frozen=True, slots=True)
class AddProcess:
    """Record a process that was started, with its first run. The commit returns its handle.

    A managed process (`spec.is_managed`) has a default `ManagedState()` from then on.
    """

    spec: ProcessSpec
    run: Run


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Record a later run of a process, its current run from then on. A stored number changes nothing."""

    handle: int
    run: Run


@dataclass(frozen=True, slots=True)
class WithdrawRun:
    """Delete a run (not the first), if it is stored, because its program could not be executed.

    The run before it is the current run again.
    """

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class ChangeSpec:
    """Replace the specification of a managed process. Its id, its name and its idempotency key stay as they are."""

    handle: int
    spec: ProcessSpec


@dataclass(frozen=True, slots=True)
class SetManaged:
    """Replace the state of a managed process."""

    handle: int
    state: ManagedState


@dataclass(frozen=True, slots=True)
class EndRun:
    """Record the end of a run. Output may still follow."""

    handle: int
    run: int
    ending: ExitStatus


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Record an event that no other change implies (`EventType.HEALTHY`, `UNHEALTHY`, `TRIMMED`)."""

    handle: int
    run: int
    type: EventType
    ts_ms: int


@dataclass(frozen=True, slots=True)
class CompleteOutput:
    """Record that all output of a run is stored."""

    handle: int
    run: int


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Record the resource usage of a run so far. May be committed before and after its end, any number of times.

    Each peak only rises; None never replaces a value. The history replaces the stored history, unless it is empty.
    """

    handle: int
    run: int
    usage: RunUsage


@dataclass(frozen=True, slots=True)
class ResizeTerminal:
    """Record a size of a process's terminal. Of two with the same time, the later change stays."""

    handle: int
    resize: Resize


@dataclass(frozen=True, slots=True)
class PurgeProcess:
    """Delete a process, its runs and its output. Its handle is never used again.

    `rule`: the rule of retention that asks for it, which the event `PURGED` says; None: a caller does.
    """

    handle: int
    rule: Rule | None = None

    @property
    def reason(self) -> PurgeReason | None:
        """Reason of the event `PURGED`."""
        return None if self.rule is None else PurgeReason.RETENTION


@dataclass(frozen=True, slots=True)
class TrimOutput:
    """Delete the oldest output of a process: up to the line, part or gap `upto_seq`, or a little less.

    A store may keep what it stores together with later output. Whatever it deletes can be read no more when this is
    committed, and `Process.output` tells how much that is. Sequence numbers and positions stay as they are.
    """

    handle: int
    upto_seq: int
    ts_ms: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class WithdrawProcess:
    """Delete a process as `PurgeProcess` does, if it is stored. For a start whose `AddProcess` may have been stored."""

    process_id: str


Change = (
    AddProcess
    | BeginRun
    | WithdrawRun
    | ChangeSpec
    | SetManaged
    | Chunk
    | EndRun
    | CompleteOutput
    | AddEvent
    | RecordUsage
    | ResizeTerminal
    | PurgeProcess
    | TrimOutput
    | WithdrawProcess
)

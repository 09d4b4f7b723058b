"""What a process is: its specification and its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.model.exit_status import ExitStatus, Reason, Status
from outlast.model.managed import ManagedState
from outlast.model.options import Options
from outlast.model.output import Stream

__all__ = [
    "ExitStatus",
    "OutputMode",
    "OutputSummary",
    "Process",
    "ProcessQuery",
    "ProcessSpec",
    "Reason",
    "Run",
    "Status",
    "StdinMode",
    "run_key",
]


class SignalScope(StrEnum):
    """Whom a signal is for: the process itself, its process group, or everything that it ever started."""

    PROCESS = "process"
    GROUP = "group"
    TREE = "tree"


class StdinMode(StrEnum):
    """`CLOSED` is /dev/null; `PIPE` is written through the API."""

    CLOSED = "closed"
    PIPE = "pipe"


class OutputMode(StrEnum):
    """`CAPTURE` keeps every byte in the store; `DISCARD` is /dev/null."""

    CAPTURE = "capture"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What was asked for when a process was created. Never changes. Environment values are not kept.

    Attributes:
        id: ULID, permanent.
        env_keys: names of the environment variables that the request set, sorted.
        working_dir: absolute path in which it was started.
        user: as requested ("name" or "uid:gid"), None for the daemon's own.
        idempotency_key: a start that is asked for with the same key again means this process.
        options: limits, a time to live, and how it is looked after.
        encrypted_env: of a managed process, its environment, encrypted: see `outlast.core.managed.env_encryption`.
    """

    id: str
    command: str
    args: tuple[str, ...] = ()
    env_keys: tuple[str, ...] = ()
    working_dir: str
    user: str | None = None
    stdin_mode: StdinMode = StdinMode.CLOSED
    stdout_mode: OutputMode = OutputMode.CAPTURE
    stderr_mode: OutputMode = OutputMode.CAPTURE
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    options: Options = field(default_factory=Options)
    encrypted_env: str | None = None

    @property
    def is_managed(self) -> bool:
        """It is looked after: it may be started again when it ends."""
        return self.name is not None or self.options.restart is not None or self.options.health_check is not None

    @property
    def captured(self) -> tuple[Stream, ...]:
        """The streams that are kept, in order."""
        modes = ((Stream.STDOUT, self.stdout_mode), (Stream.STDERR, self.stderr_mode))
        return tuple(stream for stream, mode in modes if mode is OutputMode.CAPTURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of a process.

    Attributes:
        number: 1, 2, 3 ... within its process.
        pid: the operating system's process id, also the process group and session.
        ending: None while it runs.
        output_complete: its pipes are drained and all of it is in the store: nothing more will come.
    """

    number: int = 1
    pid: int
    started_at_ms: int
    ending: ExitStatus | None = None
    output_complete: bool = False

    @property
    def status(self) -> Status:
        """`RUNNING` until the ending is known."""
        return self.ending.status if self.ending else Status.RUNNING


def run_key(process_id: str, number: int) -> str:
    """Name one run. What is meant for one (a kill that takes several rounds) must never reach the next."""
    return process_id if number == 1 else f"{process_id}.{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSummary:
    """What the store holds of a process's output. `first_seq` and `last_seq` are 0 when it holds nothing.

    Gaps take sequence numbers, but are not counted in `lines`, nor are the bytes that they skip in `bytes`.
    """

    lines: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as the store knows it.

    Attributes:
        handle: permanent, small, ascending in order of creation.
        run: the current or last one.
        managed: None if it is not managed.
    """

    handle: int
    spec: ProcessSpec
    run: Run
    output: OutputSummary = OutputSummary()
    managed: ManagedState | None = None

    @property
    def key(self) -> str:
        """What the shim knows its run by."""
        return run_key(self.spec.id, self.run.number)


class Order(StrEnum):
    """In which order processes are listed: that of their handles, falling or ascending."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessQuery:
    """Which processes to list. Conditions combine.

    For `since_ms` and `until_ms`, both inclusive, the time of a process is that of its first start, or the latest
    first start before it, if the clock was set back meanwhile. So it never falls from one process to the next, a
    restart doesn't move a process, and both bounds cut a whole range out of the list.

    Attributes:
        status: of its current run.
        name: exactly this.
        tags: each of these must be set to this value.
        before_handle: only those below this handle: how a list goes on that begins with the newest.
        after_handle: only those above this handle: how one goes on that begins with the oldest.
        order: which come first.
        limit: at most so many.
    """

    status: Status | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    since_ms: int | None = None
    until_ms: int | None = None
    before_handle: int | None = None
    after_handle: int | None = None
    order: Order = Order.NEWEST
    limit: int = 1000

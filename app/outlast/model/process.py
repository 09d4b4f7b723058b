"""A process: its specification, its runs, and the query that lists processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.model.exit_status import ExitStatus, Reason, Status
from outlast.model.managed import ManagedState
from outlast.model.options import Options
from outlast.model.output import Stream, Trimmed

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
    """Scope of a signal: the process itself, its process group, or its tree (the process and all its descendants)."""

    PROCESS = "process"
    GROUP = "group"
    TREE = "tree"


class StdinMode(StrEnum):
    """Standard input: `CLOSED` is /dev/null; `PIPE` is a pipe that the API writes to."""

    CLOSED = "closed"
    PIPE = "pipe"


class OutputMode(StrEnum):
    """Standard output or error: `CAPTURE` keeps every byte in the store; `DISCARD` is /dev/null."""

    CAPTURE = "capture"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """The request that a process was started by. It never changes.

    Values of environment variables are kept only for a managed process, and only encrypted: later runs need them.

    Attributes:
        id: ULID, permanent.
        env_keys: names of the environment variables that the request set, sorted.
        working_dir: absolute path of the folder in which the process starts.
        user: as requested ("user" or "user:group", each a name or an id); None is the daemon's own user.
        idempotency_key: a start with the same key returns this process instead of starting another.
        options: limits, timeout, restart policy and health check.
        encrypted_env: the environment of a managed process, encrypted (`outlast.core.managed.env_encryption`); else
            None.
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
        """Whether the process is managed: restarted by policy, restartable on request."""
        options = self.options
        marks = (self.name, options.restart, options.health_check, options.ready_log)
        return any(mark is not None for mark in marks)

    @property
    def captured(self) -> tuple[Stream, ...]:
        """The streams whose output is kept, in order."""
        modes = ((Stream.STDOUT, self.stdout_mode), (Stream.STDERR, self.stderr_mode))
        return tuple(stream for stream, mode in modes if mode is OutputMode.CAPTURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a process.

    Attributes:
        number: 1, 2, 3 ... within its process.
        pid: the kernel's process id, also the id of the process group and of the session.
        ending: how the run ended; None while it runs.
        output_complete: the pipes are at end of file and all output is stored: nothing more will come.
    """

    number: int = 1
    pid: int
    started_at_ms: int
    ending: ExitStatus | None = None
    output_complete: bool = False

    @property
    def status(self) -> Status:
        """The status that goes with `ending`; `RUNNING` until the ending is known."""
        return self.ending.status if self.ending else Status.RUNNING


def run_key(process_id: str, number: int) -> str:
    """Return the run key: the shim's name of one run.

    The key keeps a command that is meant for one run (such as a kill in several rounds) from reaching the next.
    """
    return process_id if number == 1 else f"{process_id}.{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSummary:
    """Size of the stored output of a process. `first_seq` and `last_seq` are 0 when nothing was ever stored.

    `latest_ms` is the latest time of its lines and gaps; None: nothing was ever stored.

    A gap has a sequence number, but does not count in `lines`, and the missing bytes do not count in `bytes`. A line
    that was stored in parts has several, and counts once. What is `trimmed` counts nowhere, and `first_seq` is the
    number behind it, also if nothing is left.
    """

    lines: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    latest_ms: int | None = None
    trimmed: Trimmed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as the store records it.

    Attributes:
        handle: permanent integer id, ascending in order of creation.
        run: the current or last run.
        managed: state of a managed process; None for any other.
    """

    handle: int
    spec: ProcessSpec
    run: Run
    output: OutputSummary = OutputSummary()
    managed: ManagedState | None = None

    @property
    def key(self) -> str:
        """The run key of the current or last run."""
        return run_key(self.spec.id, self.run.number)


class Order(StrEnum):
    """Order of a list by handle: `NEWEST` first or `OLDEST` first."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessQuery:
    """Query that lists processes. All conditions must hold.

    `since_ms` and `until_ms`, both inclusive, compare with the time of a process's first start. If the clock was set
    back, the time of the newest process that was stored when this one was added counts instead, and stays also if that
    one is purged later. So the time never decreases from one handle to the next, neither a restart nor a purge moves a
    process, and the two bounds select one contiguous range.

    Attributes:
        status: status of the current or last run.
        name: exact name.
        tags: tags that a process must have, with their values.
        before_handle: only handles below this one: the next page, newest first.
        after_handle: only handles above this one: the next page, oldest first.
        order: newest or oldest first.
        limit: maximum number of processes.
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

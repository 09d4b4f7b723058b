"""Answers of the daemon as frozen records. Fields that a newer daemon adds are passed over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

from outlast.client.items import Line, moment


class Record:
    """Base of the records that have the names of the API's fields."""

    __slots__ = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the record of a JSON object."""
        names = (field.name for field in fields(cls))  # type: ignore[arg-type] # each subclass is a dataclass
        return cls(**{name: data[name] for name in names if name in data})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedOutput(Record):
    """Output of a process that was deleted because of a limit: all up to `last_seq`, at the latest from `until`."""

    last_seq: int
    lines: int
    bytes: int
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSummary(Record):
    """Size of the stored output of a process. Ids are 0, and `last_at` is None, if nothing is stored.

    `trimmed`: what was deleted of it because of a limit.
    """

    lines: int
    bytes: int
    first_seq: int
    last_seq: int
    last_at: int | None
    trimmed: TrimmedOutput | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the record of a JSON object."""
        trimmed = TrimmedOutput.from_json(data["trimmed"]) if data.get("trimmed") else None
        names = [field.name for field in fields(cls)]
        return cls(**{name: data[name] for name in names if name in data} | {"trimmed": trimmed})


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedInfo(Record):
    """State of a managed process; docs/http-api.md describes the fields. Times are in milliseconds."""

    status: str
    restart_count: int
    restart: Mapping[str, Any]
    health_check: Mapping[str, Any] | None
    health_status: str
    consecutive_health_failures: int
    last_exit: Mapping[str, Any] | None
    last_error: str | None
    next_restart_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo(Record):
    """A process as the daemon described it. Times are milliseconds since the Unix epoch.

    Attributes:
        pid: pid of the current or last run.
        handle: permanent integer id.
        id: permanent id.
        status: `running`, `exited`, `signaled` or `oom_killed`.
        reason: why the run ended; None while it runs. `lost`: nobody can know how it ended.
        exit_code: exit code; None unless the process exited by itself.
        signal: number of the signal that ended the process; None if none did.
        oom_killed: whether the kernel killed the process because memory ran out.
        stdin_writable: whether `send` can write to standard input.
        command: program, as requested.
        args: arguments, as requested.
        started_at: start of the current or last run.
        ended_at: end of the run; None while it runs.
        managed: state of a managed process; None: it is not managed.
        name: name of the process; None if it has none.
        tags: tags of the process.
        working_dir: folder in which the process was started.
        user: user, as requested; None: the daemon's own.
        run: number of the current or last run.
        output: size of the stored output.
        usage: the last sample of what a run uses, as in `Stats`; None: it was not asked for, or the run has ended.
        tty: rows and columns that the terminal of the process had at its start; None: it has no terminal.
    """

    pid: int
    handle: int
    id: str
    status: str
    reason: str | None
    exit_code: int | None
    signal: int | None
    oom_killed: bool
    stdin_writable: bool
    command: str
    args: Sequence[str]
    started_at: int
    ended_at: int | None
    managed: ManagedInfo | None
    name: str | None
    tags: Mapping[str, str]
    working_dir: str
    user: str | None
    run: int
    output: OutputSummary
    usage: Mapping[str, Any] | None = None
    tty: Mapping[str, int] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the record of a JSON object."""
        managed = ManagedInfo.from_json(data["managed"]) if data["managed"] else None
        # The two-argument super of a class with slots: the decorator makes a second class.
        nested = {"managed": managed, "output": OutputSummary.from_json(data["output"])}
        names = [field.name for field in fields(cls)]
        return cls(**{name: data[name] for name in names if name in data} | nested)

    @property
    def is_running(self) -> bool:
        """Whether the current run has not ended."""
        return self.status == "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """One run of a process. Times are milliseconds since the Unix epoch."""

    run: int
    pid: int
    status: str
    reason: str | None
    exit_code: int | None
    signal: int | None
    oom_killed: bool
    started_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Record):
    """Resource use of one run; docs/http-api.md describes samples and peaks.

    Attributes:
        id: permanent id of the process.
        pid: pid of the run.
        run: number of the run.
        current: sample taken now; None: the run has ended.
        peak: highest values of the run.
        history: the last samples, oldest first.
    """

    id: str
    pid: int
    run: int
    current: Mapping[str, Any] | None
    peak: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Record):
    """A line that a search has found.

    Attributes:
        process_id: permanent id of the process that printed the line.
        handle: permanent short id of the process.
        name: name of the process; None if it has none.
        command: program of the process.
        run: number of the run.
        pid: pid of the run.
        seq: id of the line in the output of the process.
        timestamp: time at which the line was read, in milliseconds since the Unix epoch.
        stream: `stdout` or `stderr`.
        line: the line, without its line break.
        spans: where the line matches, at most the first 100: begin and end of each, in characters.
    """

    process_id: str
    handle: int
    name: str | None
    command: str
    run: int
    pid: int
    seq: int
    timestamp: int
    stream: str
    line: str
    spans: Sequence[Sequence[int]] = ()

    @property
    def time(self) -> datetime:
        """Time at which the line was read, in UTC."""
        return moment(self.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Record):
    """Result of an SQL query. `truncated`: there are more rows than `limit`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    truncated: bool

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dictionary. Of columns with the same name, the last one counts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Info(Record):
    """Version and counts of the daemon."""

    version: str
    shim_version: str | None
    uptime_secs: int
    running_processes: int
    total_processes: int
    adopted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that was run to its end.

    Attributes:
        id: permanent id of the process.
        pid: its pid.
        exit_code: exit code; None unless the command exited by itself.
        signal: number of the signal that ended it; None if none did.
        reason: why it ended: `exited`, `signaled`, `oom_killed`, `timed_out` or `lost`.
        lines: lines of both streams, in the order in which they were read.
    """

    id: str
    pid: int
    exit_code: int | None
    signal: int | None
    reason: str
    lines: Sequence[Line]

    @property
    def stdout(self) -> str:
        """Standard output: its lines, joined by line breaks."""
        return "\n".join(line.text for line in self.lines if line.stream == "stdout")

    @property
    def stderr(self) -> str:
        """Standard error: its lines, joined by line breaks."""
        return "\n".join(line.text for line in self.lines if line.stream == "stderr")

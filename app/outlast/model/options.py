"""Options of a process besides its command: limits, timeout, restart policy and health check."""

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

DEFAULT_STOP_GRACE_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits of a process. None: the daemon's own limit.

    Attributes:
        cpu_seconds: CPU time of each process of the tree (setrlimit).
        address_space_bytes: virtual memory of each process (setrlimit).
        open_files: open file descriptors of each process (setrlimit).
        processes: processes and threads of the user, all together (setrlimit).
        file_size_bytes: largest file that each process may write (setrlimit).
        memory_bytes: memory of the whole tree (cgroup).
        cpus: CPUs that the whole tree may use, such as 0.5 (cgroup).
        pids: processes and threads of the whole tree (cgroup).
    """

    cpu_seconds: int | None = None
    address_space_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size_bytes: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None

    @property
    def given(self) -> dict[str, int | float]:
        """The limits that are set, by name."""
        return {name: value for name in _LIMITS if (value := getattr(self, name)) is not None}


_LIMITS = tuple(field.name for field in fields(Limits))


class RestartPolicy(StrEnum):
    """Ends after which a managed process is restarted."""

    NEVER = "never"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Restart policy of a managed process: when, how often and after what delay it is restarted.

    Attributes:
        policy: after which ends.
        max_restarts: maximum number of restarts in a row; None: no maximum.
        initial_backoff_ms: upper bound of the first delay, which is drawn at random. It doubles with each restart.
        max_backoff_ms: upper bound of every delay.
        delay_ms: the delay before each restart, instead of one that is drawn; None: it is drawn.
    """

    policy: RestartPolicy = RestartPolicy.ON_FAILURE
    max_restarts: int | None = None
    initial_backoff_ms: int = 500
    max_backoff_ms: int = 30_000
    delay_ms: int | None = None

    @property
    def longest_ms(self) -> int:
        """The longest delay."""
        return self.max_backoff_ms if self.delay_ms is None else self.delay_ms


class HealthCheckType(StrEnum):
    """Kind of a health check.

    `HTTP`: a GET is answered with 2xx or 3xx; `TCP`: a connection is accepted; `EXEC`: a command exits with 0.
    """

    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """Health check of a managed process.

    Attributes:
        type: kind of the check.
        port: for `HTTP` and `TCP`, a port of this machine.
        path: for `HTTP`, the path of the request.
        command: for `EXEC`, the program.
        args: for `EXEC`, its arguments.
        initial_delay_ms: time from the start of a run to its first check.
        interval_ms: time between two checks.
        timeout_ms: time after which a check has failed.
        failure_threshold: number of failures in a row after which the run is unhealthy.
    """

    type: HealthCheckType
    port: int | None = None
    path: str = "/"
    command: str | None = None
    args: tuple[str, ...] = ()
    initial_delay_ms: int = 5000
    interval_ms: int = 1000
    timeout_ms: int = 500
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Terminal of a process, which is its standard input, output and error.

    Attributes:
        rows: height at the start of each run.
        cols: width, likewise.
        token_hash: SHA-256, in hexadecimal digits, of the token with which clients attach to it. None: it has none.
    """

    rows: int = 24
    cols: int = 80
    token_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Limits of one process, where they differ from the settings `keep_...`. None: the setting. 0: none.

    Attributes:
        output_s: age in seconds at which its output is deleted.
        bytes: bytes on the disk beyond which its oldest output is deleted.
        ended_s: time in seconds after its end at which it is purged.
        always: whether neither the limit of all output nor those of ended processes count for it.
    """

    output_s: int | None = None
    bytes: int | None = None
    ended_s: int | None = None
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a start.

    Attributes:
        timeout_ms: time after the start of each run at which the whole tree is killed. None: never.
        stop_signal: number of the signal that asks the process to end, when it is stopped in order.
        stop_grace_ms: time between `stop_signal` and SIGKILL.
        success_exit_codes: exit codes that count as success, besides 0.
        nice: nice value; None: the daemon's own.
        limits: resource limits.
        restart: restart policy of a managed process.
        health_check: health check of a managed process.
        ready_log: regular expression; a run of a managed process is healthy once a line of it matches.
        keep: what is kept, where that differs from the settings.
        terminal: its terminal, if it has one.
    """

    timeout_ms: int | None = None
    stop_signal: int = signal.SIGTERM
    stop_grace_ms: int = DEFAULT_STOP_GRACE_MS
    success_exit_codes: tuple[int, ...] = ()
    nice: int | None = None
    limits: Limits = Limits()
    restart: Restart | None = None
    health_check: HealthCheck | None = None
    ready_log: str | None = None
    keep: Keep | None = None
    terminal: Terminal | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the options that differ from the defaults as a JSON-ready dictionary, which `from_record` reads."""
        plain = Options()
        record: dict[str, Any] = {}
        for name in ("timeout_ms", "stop_signal", "stop_grace_ms", "success_exit_codes", "nice", "ready_log"):
            if getattr(self, name) != getattr(plain, name):
                record[name] = getattr(self, name)
        for name in ("limits", "restart", "health_check", "keep", "terminal"):
            part = getattr(self, name)
            if part is not None and part != getattr(plain, name):
                values = asdict(part).items()
                record[name] = {key: value for key, value in values if not _is_unset(value)}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Options":
        """Return the options that `to_record` wrote."""
        parts = dict(record)
        if "success_exit_codes" in parts:
            parts["success_exit_codes"] = tuple(parts["success_exit_codes"])
        if "limits" in parts:
            parts["limits"] = Limits(**parts["limits"])
        if "restart" in parts:
            restart = parts["restart"]
            parts["restart"] = Restart(**{**restart, "policy": RestartPolicy(restart["policy"])})
        if "health_check" in parts:
            check = parts["health_check"]
            known = {"type": HealthCheckType(check["type"]), "args": tuple(check.get("args", ()))}
            parts["health_check"] = HealthCheck(**{**check, **known})
        if "terminal" in parts:
            parts["terminal"] = Terminal(**parts["terminal"])
        if "keep" in parts:
            parts["keep"] = Keep(**parts["keep"])
        return cls(**parts)


def _is_unset(value: object) -> bool:
    return value is None or value is False or value == ()

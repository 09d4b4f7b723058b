"""The terms on which daemon and shim meet, besides their messages: commands, stages of a start, names, limits.

Every process that is started begins as a copy of the fork helper, which imports this module: it imports next to
nothing.
"""

import resource
import signal
from collections import namedtuple
from collections.abc import Mapping, Sequence

SOCKET_NAME = "shim.sock"
"""The shim's unix socket, in the state folder."""
SHIM_LOCK_NAME = "shim.lock"
"""The file, in the state folder, that a shim locks for life."""
DAEMON_LOCK_NAME = "lock"
"""The file, in the state folder, that a daemon, or `outlast shutdown` in its place, locks for life."""
DAEMON_USE, SHIM_USE = 0, 1
"""Numbers with which daemon and shim lock the state folder itself."""

STATE_VERSION = 5
"""Version of the state that a shim hands over to its next version. A shim refuses a program of another one."""

INIT_MODE = "init"
"""The argument that makes `python -m outlast.shim` an init; it stands where READY_FD stands otherwise."""
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals on which an init ends everything."""
BLOCKED_SIGNALS = (*END_SIGNALS, signal.SIGHUP)
"""Signals that are blocked when an init is executed: without a handler, the kernel would discard them for PID 1."""

PROCESS_ID_VARIABLE = "OUTLAST_PROCESS_ID"
"""The environment variable that tells a program the key of its run."""
MARK_VARIABLE = "OUTLAST_MARK"
"""The environment variable that carries the mark of a run (`identity.make_mark`), as its limit on file locks does.

Descendants inherit both. Processes of Outlast itself that the shim starts have the variable with `OWN_MARK`.
"""
OWN_MARK = "0"

GATE_BYTE = b"/"
"""The byte that opens a gate: the first one of any program's absolute path, which a waiting child may lack."""

WINDOW_BYTES = 12 << 20
"""Maximum bytes of one process's output that are sent and not acknowledged."""
UNFINISHED_CHARACTER_BYTES = 3
"""Maximum bytes at the end of a stream, the beginning of a character, that the daemon stores only with their rest or
with the end of the stream. What the other stream brings meanwhile is acknowledged before them."""
FRAME_OVERHEAD_BYTES = 256
"""Bytes of memory that a frame takes besides its output."""

RLIMITS = {
    "cpu_seconds": resource.RLIMIT_CPU,
    "address_space_bytes": resource.RLIMIT_AS,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file_size_bytes": resource.RLIMIT_FSIZE,
}
"""Limits that a process sets for itself by setrlimit(2), by their names in the API."""
CONTROLLERS = {"memory_bytes": "memory", "cpus": "cpu", "pids": "pids"}
"""Limits that a process's cgroup sets, by their names in the API, and the controller that each needs."""

USAGE_FEATURE = "usage"
"""Feature that the greeting of a shim names if the shim answers USAGE. An older one would drop the connection."""
TERMINAL_FEATURE = "terminal"
"""Feature that a shim names if it can start a program in a terminal: in its greeting, and when it is to take the place
of another one. An older shim would drop the connection, or lose the terminals that it is handed."""

Limits = Mapping[str, int | float]


class Stage:
    """Steps of a start, by the number with which a start that failed names the step. `STAGES` continues them."""

    SETUP = 0
    USER = 1
    WORKING_DIR = 2
    EXEC = 3


STAGES = {16 + i: name for i, name in enumerate(["nice", *RLIMITS, *CONTROLLERS])}
"""Steps that set one limit, by number, and the name of that limit in the API."""


class Command(
    namedtuple(  # noqa: PYI024 - `typing` would be a fifth of the fork helper's memory
        "Command",
        "argv env working_dir stdin stdout stderr uid gid groups timeout_ms nice limits terminal",
        defaults=(None,),
    )
):
    """A program to start. The daemon has resolved everything: users to numbers, the whole environment, absolute paths.

    Attributes:
        stdin: whether the process gets a pipe as standard input; otherwise it gets /dev/null.
        stdout: whether its standard output is captured.
        stderr: whether its standard error is captured.
        uid: None: that of the shim. Likewise `gid` and `groups`.
        timeout_ms: how long the program may run. None: for ever.
        nice: None: that of the shim.
        limits: values of `RLIMITS` and `CONTROLLERS` that were asked for.
        terminal: rows and columns of the terminal that is its standard input, output and error. None: it has none. Sent
            only to a shim with `TERMINAL_FEATURE`.
    """

    __slots__ = ()

    argv: list[str]
    env: Mapping[str, str]
    working_dir: str
    stdin: bool
    stdout: bool
    stderr: bool
    uid: int | None
    gid: int | None
    groups: Sequence[int] | None
    timeout_ms: int | None
    nice: int | None
    limits: Limits
    terminal: Sequence[int] | None

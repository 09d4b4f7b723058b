"""A forked child until it is its program: prepare, wait at the gate, exec; or report the failure and end.

The gate is a pipe. While it is shut, the program does not run; if all holders of its writing end die, it never will.

Every process that is started begins as a copy of the fork helper, which imports this module: it imports next to
nothing.
"""

import errno
import mmap
import os
import resource
import signal
import struct
from collections import namedtuple
from collections.abc import Mapping, Sequence

from outlast.linux.clone import join_cgroup
from outlast.linux.closing import close_all_but
from outlast.linux.marks import set_mark
from outlast.shim.launch.limits import LimitRefused, lower_limits, names_in_group, raise_limits, set_nice
from outlast.shortages import SHORTAGES
from outlast.wire.contract import Limits, Stage

TERMINAL_SIGNALS = [int(s) for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)]
FAILURE = struct.Struct("<BI")
"""Failure of a start in its report: stage and errno."""
NO_CGROUP, FAILURE_AT = b"c", 1
"""First byte of the report if the process is not in its cgroup, and place of the failure."""
REPORT_BYTES = FAILURE_AT + FAILURE.size

ExecSpec = namedtuple(  # noqa: PYI024 - `typing` would be a fifth of the fork helper's memory
    "ExecSpec", "argv env working_dir uid gid groups nice limits open_files group mark has_terminal"
)
"""Everything that a child must know of a start, in types that `marshal` takes.

Fields of its `Command`; `open_files`, the soft and hard limit unless `limits` has one; `group`, its cgroup or None;
`mark`, that of its run; `has_terminal`, whether standard input is a terminal, to be the controlling one.
"""


def map_report(report: int) -> mmap.mmap:
    """Map a report file before the fork: then no limit on memory or file size keeps the child from writing to it.

    Raises:
        OSError: the system has no memory for it now.
    """
    return mmap.mmap(report, REPORT_BYTES)


def exec_child(spec: ExecSpec, fds: Sequence[int], report: mmap.mmap, reset_signals: Sequence[int] = ()) -> None:
    """Become the program in a session of its own, or report the failure and end. Never returns.

    Args:
        spec: what to run.
        fds: standard input, output and error; the gate's reading end; the outcome pipe's writing end, which closes
            when the program runs or the child ends.
        report: the mapped report file.
        reset_signals: signals to set back to their default action. If there are any, those of terminals are blocked.
    """
    stdin, stdout, stderr, gate, outcome = fds
    stage = Stage.SETUP
    try:
        os.setsid()
        if reset_signals:
            _reset(reset_signals)
        if spec.group is not None:
            _join_cgroup(spec.group, spec.limits, report)
        resource.setrlimit(resource.RLIMIT_NOFILE, spec.open_files)
        if spec.has_terminal:
            os.login_tty(stdin)  # makes it all three standard descriptors, too
        else:
            _set_standard_fds(stdin, stdout, stderr)
        close_all_but((gate, outcome))  # a child that waits must hold neither other processes' pipes nor its own gate
        set_nice(spec.nice)
        raise_limits(spec.limits)
        set_mark(spec.mark)  # where that is refused, the environment has the mark alone
        stage = Stage.USER
        if spec.groups is not None:
            os.setgroups(spec.groups)
        if spec.gid is not None:
            os.setresgid(spec.gid, spec.gid, spec.gid)
        if spec.uid is not None:
            os.setresuid(spec.uid, spec.uid, spec.uid)
        stage = Stage.WORKING_DIR
        os.chdir(spec.working_dir)
        stage = Stage.EXEC
        _wait_at_gate(gate)
        lower_limits(spec.limits)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _execute(spec.argv, spec.env)
    except BaseException as exc:  # noqa: BLE001 - no exception may escape into the parent's loop from here
        number = errno.ENOMEM if isinstance(exc, MemoryError) else getattr(exc, "errno", None) or errno.EINVAL
        report[FAILURE_AT:] = FAILURE.pack(getattr(exc, "stage", stage), number)
    finally:
        os._exit(127)


def _reset(signals: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    while signal.sigtimedwait(TERMINAL_SIGNALS, 0):  # sent before the child had a session of its own
        pass
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


def _join_cgroup(group: str, limits: Limits, report: mmap.mmap) -> None:
    try:
        join_cgroup(group)
    except OSError as exc:
        for name in names_in_group(limits):
            raise LimitRefused(name, exc.errno or errno.EPERM) from None
        report[0:1] = NO_CGROUP


def _execute(argv: list[str], env: Mapping[str, str]) -> None:
    """Execute the program. os.execvpe does the same, but encodes all arguments again for each folder of PATH."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)  # noqa: S606 - no shell is the point
    refused: OSError | None = None
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, argv[0])
        try:
            os.stat(path)
            os.execve(path, argv, env)  # noqa: S606 - as above
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            if exc.errno in SHORTAGES:  # this says nothing about the program
                raise
            refused = refused or exc
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _wait_at_gate(gate: int) -> None:
    if not os.read(gate, 1):
        raise OSError(errno.ECANCELED, "the gate was closed and never opened")


def _set_standard_fds(stdin: int, stdout: int, stderr: int) -> None:
    """Make the three descriptors 0, 1 and 2. All others are close-on-exec, as Python makes them."""
    # The parent never closes its own 0-2, so none of these three is one of them, and none is overwritten early.
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)

"""What a forked process does until it is its program: prepare, wait at the gate, exec; or say why not, and end.

The gate is a pipe. While it is shut, the program does not run; if whoever holds it dies then, it never will.

Nothing unneeded is imported here: see `forker.py`.
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
from outlast.shim.launch.limits import LimitRefused, in_group, lower_limits, raise_limits, set_nice
from outlast.wire.contract import Limits, Stage

FROM_TERMINALS = [int(s) for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)]
FAILURE = struct.Struct("<BI")
NO_CGROUP, FAILURE_AT = b"c", 1  # where in the report, and what
REPORT_BYTES = FAILURE_AT + FAILURE.size

ExecSpec = namedtuple(  # noqa: PYI024 - `typing` is a fifth of what `forker.py` has of memory
    "ExecSpec", ("argv", "env", "working_dir", "uid", "gid", "groups", "nice", "limits", "open_files", "group")
)
"""What is to be forked: the fields of a `spawn.Command` that the process itself must know, as `marshal` takes them; the
limits, soft and hard, on what it may have open unless it asks for others; and the cgroup to join, or None."""


def map_report(report: int) -> mmap.mmap:
    """Map a report before the fork: then no limit on memory or on the size of files keeps a failure from being told.

    Raises:
        OSError: there is no memory now.
    """
    return mmap.mmap(report, REPORT_BYTES)


def become(order: ExecSpec, theirs: Sequence[int], told: mmap.mmap, signals: Sequence[int] = ()) -> None:
    """Become the program in a session of its own, or report why not and end. Never returns.

    Args:
        order: what to do.
        theirs: its standard input, output and error, the gate, and what ends when it runs or has failed.
        told: the mapped report.
        signals: what has to be set back to what is ordinary. If there is any, those of terminals are blocked.
    """
    stdin, stdout, stderr, opened, ended = theirs
    stage = Stage.SETUP
    try:
        os.setsid()
        if signals:
            _reset(signals)
        if order.group is not None:
            _join(order.group, order.limits, told)
        resource.setrlimit(resource.RLIMIT_NOFILE, order.open_files)
        _place(stdin, stdout, stderr)
        _close_all_but(opened, ended)
        set_nice(order.nice)
        raise_limits(order.limits)
        stage = Stage.USER
        if order.groups is not None:
            os.setgroups(order.groups)
        if order.gid is not None:
            os.setresgid(order.gid, order.gid, order.gid)
        if order.uid is not None:
            os.setresuid(order.uid, order.uid, order.uid)
        stage = Stage.WORKING_DIR
        os.chdir(order.working_dir)
        stage = Stage.EXEC
        _pass_gate(opened)
        lower_limits(order.limits)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _execute(order.argv, order.env)
    except BaseException as exc:  # noqa: BLE001 - nothing may escape into the parent's loop from here
        number = errno.ENOMEM if isinstance(exc, MemoryError) else getattr(exc, "errno", None) or errno.EINVAL
        told[FAILURE_AT:] = FAILURE.pack(getattr(exc, "stage", stage), number)
    finally:
        os._exit(127)


def _reset(signals: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    while signal.sigtimedwait(FROM_TERMINALS, 0):  # what came before there was a session of its own
        pass
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


def _join(group: str, limits: Limits, told: mmap.mmap) -> None:
    try:
        join_cgroup(group)
    except OSError as exc:
        for name in in_group(limits):
            raise LimitRefused(name, exc.errno or errno.EPERM) from None
        told[0:1] = NO_CGROUP


def _execute(argv: list[str], env: Mapping[str, str]) -> None:
    """Become the program. os.execvpe does the same, and hands over all words anew for each folder of PATH."""
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
            refused = refused or exc
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _close_all_but(*kept: int) -> None:
    """Close what is somebody else's: while this waits, it must not hold other processes' pipes, nor its own gate."""
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _pass_gate(opened: int) -> None:
    if not os.read(opened, 1):
        raise OSError(errno.ECANCELED, "nobody opened the gate")


def _place(stdin: int, stdout: int, stderr: int) -> None:
    """Make the three descriptors 0, 1 and 2. All else is close-on-exec, as Python makes it."""
    # The parent never closes its own 0-2, so none of these three can be one of them, and none is overwritten early.
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)

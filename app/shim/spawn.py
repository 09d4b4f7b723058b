"""Starting one process: fork, prepare, wait at the gate, exec. The parent never waits: the outcome is told by a pipe.

The gate is a pipe, too. While it is shut, the program does not run; if whoever holds it dies then, it never will.

Several starts are made in step: one fork right behind the other. After a fork the system copies each page that this
process writes to, and the next fork has to share all of them anew.
"""

import errno
import functools
import mmap
import os
import resource
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from app.shim import cgroup
from app.shim.limits import LimitRefused, Wanted, in_group, lower_limits, raise_limits, set_nice
from app.shim.linux import pidfd_open, widen_pipe

_FAILURE = struct.Struct("<BI")
_NO_CGROUP, _FAILURE_AT = b"c", 1  # where in the report, and what
_REPORT_BYTES = _FAILURE_AT + _FAILURE.size
_FROM_TERMINALS = [int(s) for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)]


@functools.cache
def _changed_signals() -> list[int]:
    """Return the signals that this process ignores or handles, or was started with ignored: once it serves, for good.

    Those that can't be changed are not among them, nor the two that the C library keeps for itself.
    """
    return [int(number) for number in signal.valid_signals() if signal.getsignal(number) is not signal.SIG_DFL]


class Stage:
    """At which step a start failed. `limits.STAGES` has more."""

    SETUP = 0
    USER = 1
    WORKING_DIR = 2
    EXEC = 3


class Command(NamedTuple):
    """What to start. Everything is resolved by the daemon: numbers for users, a whole environment, absolute folders.

    Attributes:
        timeout_ms: how long it may run.
        nice: None: as this process.
        limits: those of `limits.RLIMITS` and `limits.CONTROLLERS` that were asked for.
    """

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
    limits: Wanted


class SpawnOutcome:
    """What a `Start.report` says: a file, and not a pipe, so that whoever looks again finds it again."""

    def __init__(self, report: int) -> None:
        raw = os.pread(report, _REPORT_BYTES, 0).ljust(_REPORT_BYTES, b"\0")
        self.joined_cgroup = not raw.startswith(_NO_CGROUP)
        self.stage: int
        self.errno: int
        self.stage, self.errno = _FAILURE.unpack_from(raw, _FAILURE_AT)

    @property
    def failed(self) -> bool:
        """The process never ran its program."""
        return self.errno != 0


class Start:
    """A process to be started, with our ends of its pipes (None where it has /dev/null), and how far it has come.

    Attributes:
        gate: a byte written here lets it run its program. Closed without one, it ends.
        outcome: a pipe that ends when the program runs, or the start has failed.
        report: a memory file that tells by then which of the two: see `SpawnOutcome`.
        pid: 0 until it is forked.
        pidfd: -1 until then.
        refused: why it could not be forked; nothing of it is left then.
    """

    def __init__(self, command: Command, *, group: str | None, prepare: Callable[[], None]) -> None:
        """Make all that the fork needs.

        Args:
            command: what to start.
            group: cgroup to join, if any.
            prepare: called in the child first, to undo what this process has set for itself (limits, umask).

        Raises:
            OSError: no pipe can be made now.
        """
        self._command, self._group, self._prepare = command, group, prepare
        self._ours: list[int] = []
        self._theirs: list[int] = []
        self.pid, self.pidfd = 0, -1
        self.refused: OSError | None = None
        try:
            self.stdin = self._input(is_pipe=command.stdin)
            self.stdout = self._output(captured=command.stdout)
            self.stderr = self._output(captured=command.stderr)
            opened, self.gate = os.pipe()
            self._keep(ours=self.gate, theirs=opened)
            self.outcome, ended = os.pipe()
            self._keep(ours=self.outcome, theirs=ended)
            self.report = os.memfd_create("outlast-start", os.MFD_CLOEXEC)
            self._ours.append(self.report)
            os.ftruncate(self.report, _REPORT_BYTES)
            # Mapped, because limits on memory and on the size of files must not keep a failure from being told.
            self._told = mmap.mmap(self.report, _REPORT_BYTES)
        except OSError:
            _close(self._ours + self._theirs)
            raise

    def _keep(self, *, ours: int, theirs: int) -> None:
        self._ours.append(ours)
        self._theirs.append(theirs)

    def _input(self, *, is_pipe: bool) -> int | None:
        if not is_pipe:
            self._theirs.append(os.open(os.devnull, os.O_RDONLY))
            return None
        read_end, write_end = os.pipe()
        self._keep(ours=write_end, theirs=read_end)
        return write_end

    def _output(self, *, captured: bool) -> int | None:
        if not captured:
            self._theirs.append(os.open(os.devnull, os.O_WRONLY))
            return None
        read_end, write_end = os.pipe()
        self._keep(ours=read_end, theirs=write_end)
        widen_pipe(read_end)
        return read_end

    def fork(self) -> None:
        """Fork; or note in `refused` that this can't be done now."""
        try:
            self.pid = os.fork()
        except OSError as exc:
            self.refused = exc
        else:
            if self.pid == 0:
                _run_child(self._command, self._theirs, self._told, self._group, self._prepare)

    def finish(self) -> None:
        """Let go of what is the child's; of all, if it is refused."""
        self._told.close()
        if self.refused is None:
            try:
                self.pidfd = pidfd_open(self.pid)
            except OSError as exc:
                self.refused = exc
        _close(self._theirs)
        if self.refused is not None:
            _close(self._ours)  # the gate among them, so that what was forked ends
            return
        for fd in self._ours:
            os.set_blocking(fd, False)


def spawn(starts: Sequence[Start]) -> None:
    """Fork processes that will exec their commands, each in a session of its own."""
    # A signal between fork and exec would run this process's handlers in the child, on shared descriptors.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FROM_TERMINALS, *_changed_signals()})
    try:
        for start in starts:
            start.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for start in starts:
        start.finish()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _run_child(
    command: Command, theirs: Sequence[int], told: mmap.mmap, group: str | None, prepare: Callable[[], None]
) -> None:
    """Become the program, or report why not and end. Never returns."""
    stdin, stdout, stderr, opened, ended = theirs
    stage = Stage.SETUP
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        while signal.sigtimedwait(_FROM_TERMINALS, 0):  # what came before there was a session of its own
            pass
        for number in _changed_signals():
            signal.signal(number, signal.SIG_DFL)
        if group is not None:
            try:
                cgroup.join(group)
            except OSError as exc:
                for name in in_group(command.limits):
                    raise LimitRefused(name, exc.errno or errno.EPERM) from None
                told[0:1] = _NO_CGROUP
        prepare()
        _place(stdin, stdout, stderr)
        _close_all_but(opened, ended)
        set_nice(command.nice)
        raise_limits(command.limits)
        stage = Stage.USER
        if command.groups is not None:
            os.setgroups(command.groups)
        if command.gid is not None:
            os.setresgid(command.gid, command.gid, command.gid)
        if command.uid is not None:
            os.setresuid(command.uid, command.uid, command.uid)
        stage = Stage.WORKING_DIR
        os.chdir(command.working_dir)
        stage = Stage.EXEC
        _pass_gate(opened)
        lower_limits(command.limits)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _execute(command.argv, command.env)
    except BaseException as exc:  # noqa: BLE001 - nothing may escape into the parent's loop from here
        number = errno.ENOMEM if isinstance(exc, MemoryError) else getattr(exc, "errno", None) or errno.EINVAL
        told[_FAILURE_AT:] = _FAILURE.pack(getattr(exc, "stage", stage), number)
    finally:
        os._exit(127)


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

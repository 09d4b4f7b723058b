"""Starting processes: what each needs is made, they are forked together, and nobody waits for what they do.

What becomes of a start is told by a pipe that ends.
"""

import functools
import os
import signal
from collections.abc import Sequence

from outlast.linux.memory import widen_pipe
from outlast.linux.process import pidfd_open
from outlast.shim.launch.exec_child import (
    FAILURE,
    FAILURE_AT,
    FROM_TERMINALS,
    NO_CGROUP,
    REPORT_BYTES,
    ExecSpec,
    become,
    map_report,
)
from outlast.shim.launch.forkserver import CANNOT, ForkServer
from outlast.wire.contract import Command


@functools.cache
def _changed_signals() -> list[int]:
    """Return the signals that this process ignores or handles, or was started with ignored: once it serves, for good.

    Those that can't be changed are not among them, nor the two that the C library keeps for itself.
    """
    return [int(number) for number in signal.valid_signals() if signal.getsignal(number) is not signal.SIG_DFL]


class SpawnOutcome:
    """What a `Start.report` says: a file, and not a pipe, so that whoever looks again finds it again."""

    def __init__(self, report: int) -> None:
        raw = os.pread(report, REPORT_BYTES, 0).ljust(REPORT_BYTES, b"\0")
        self.joined_cgroup = not raw.startswith(NO_CGROUP)
        self.stage: int
        self.errno: int
        self.stage, self.errno = FAILURE.unpack_from(raw, FAILURE_AT)

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

    def __init__(self, command: Command, *, group: str | None, open_files: tuple[int, int]) -> None:
        """Make all that the fork needs.

        Args:
            command: what to start.
            group: cgroup to join, if any.
            open_files: the limits, soft and hard, on what it may have open unless it asks for others.

        Raises:
            OSError: no pipe can be made now.
        """
        self.order = _make_spec(command, group, open_files)
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
            os.ftruncate(self.report, REPORT_BYTES)
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

    @property
    def descriptors(self) -> list[int]:
        """What whoever forks it must have: the five that are the process's, and the report."""
        return [*self._theirs, self.report]

    def fork(self) -> None:
        """Fork this process; or note in `refused` that this can't be done now."""
        try:
            with map_report(self.report) as told:
                self.pid = os.fork()
                if self.pid == 0:
                    become(self.order, self._theirs, told, _changed_signals())
        except OSError as exc:
            self.refused = exc

    def finish(self) -> None:
        """Let go of what is the child's; of all, if it is refused."""
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


def _make_spec(command: Command, group: str | None, open_files: tuple[int, int]) -> ExecSpec:
    """Return the part of a command that the process itself must know."""
    return ExecSpec(
        argv=command.argv,
        env=command.env,
        working_dir=command.working_dir,
        uid=command.uid,
        gid=command.gid,
        groups=command.groups,
        nice=command.nice,
        limits=command.limits,
        open_files=open_files,
        group=group,
    )


def spawn(starts: Sequence[Start], server: ForkServer) -> None:
    """Fork processes that will exec their commands, each in a session of its own."""
    left = list(starts)
    if server.is_usable():
        left = []
        for start, result in zip(starts, server.fork([(s.order, s.descriptors) for s in starts]), strict=True):
            if result > 0:
                start.pid = result
            elif -result in CANNOT:
                server.give_up()
                left.append(start)
            else:
                start.refused = OSError(-result, os.strerror(-result))
    if left:
        _fork_here(left)
    for start in starts:
        start.finish()


def _fork_here(starts: Sequence[Start]) -> None:
    """Fork this process, where there is no other way.

    One fork comes right behind the other: after a fork the system copies each page that this process writes to, and the
    next fork has to share all of them anew.
    """
    # A signal between fork and exec would run this process's handlers in the child, on shared descriptors.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*FROM_TERMINALS, *_changed_signals()})
    try:
        for start in starts:
            start.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

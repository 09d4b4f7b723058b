"""A process to start: what it needs, its fork, and its outcome, for which nobody waits.

A pipe that ends tells when the outcome of a start is known.
"""

import contextlib
import functools
import os
import signal
from collections.abc import Sequence

from outlast.linux.memory import widen_pipe
from outlast.linux.process import pidfd_open
from outlast.shim.launch.exec_child import (
    FAILURE,
    FAILURE_AT,
    NO_CGROUP,
    REPORT_BYTES,
    TERMINAL_SIGNALS,
    ExecSpec,
    exec_child,
    map_report,
)
from outlast.wire.contract import MARK_VARIABLE, Command
from outlast.wire.fds import close_all


@functools.cache
def _changed_signals() -> list[int]:
    """Return the signals that this process ignores or handles, or was started with ignored. They never change.

    Signals that cannot be changed are not among them, nor the two that the C library keeps for itself.
    """
    return [int(number) for number in signal.valid_signals() if signal.getsignal(number) is not signal.SIG_DFL]


def _make_spec(command: Command, group: str | None, open_files: tuple[int, int], mark: int) -> ExecSpec:
    """Return what the child must know of a command."""
    return ExecSpec(
        argv=command.argv,
        env={**command.env, MARK_VARIABLE: str(mark)},
        working_dir=command.working_dir,
        uid=command.uid,
        gid=command.gid,
        groups=command.groups,
        nice=command.nice,
        limits=command.limits,
        open_files=open_files,
        group=group,
        mark=mark,
        has_terminal=command.terminal is not None,
    )


class SpawnOutcome:
    """Outcome of a start, read from `Start.report`: a file, and not a pipe, so that every reader finds it."""

    def __init__(self, report: int) -> None:
        raw = os.pread(report, REPORT_BYTES, 0).ljust(REPORT_BYTES, b"\0")
        self.joined_cgroup = not raw.startswith(NO_CGROUP)
        self.stage: int
        self.errno: int
        self.stage, self.errno = FAILURE.unpack_from(raw, FAILURE_AT)

    @property
    def failed(self) -> bool:
        """Whether the process never ran its program."""
        return self.errno != 0


class Start:
    """A process to start, and how far its start has come.

    Attributes:
        stdin: writing end of its standard input, or the master of its terminal; None where it has /dev/null.
        stdout: reading end of its standard output, or the master, likewise. `stderr` is that of its standard error.
        relay: of a terminal, both ends of the pipe through which its output passes; else empty.
        gate: a byte that is written here lets it run its program. Closed without one, the process ends.
        outcome: a pipe that ends when the program runs or the start has failed.
        report: a memory file that then tells which of the two: see `SpawnOutcome`.
        pid: 0 until it is forked.
        pidfd: -1 until then.
        refused: why it could not be forked. Then all descriptors are closed.
    """

    def __init__(self, command: Command, *, group: str | None, open_files: tuple[int, int], mark: int) -> None:
        """Make all that the fork needs.

        Args:
            command: the program.
            group: the cgroup to join, if any.
            open_files: the soft and hard limit on open files, unless the command names others.
            mark: the mark of the run.

        Raises:
            OSError: no pipe can be made now.
        """
        self.spec = _make_spec(command, group, open_files, mark)
        self._ours: list[int] = []
        self._theirs: list[int] = []
        self.pid, self.pidfd = 0, -1
        self.refused: OSError | None = None
        self.stdin: int | None = None
        self.stdout: int | None = None
        self.stderr: int | None = None
        self.relay: tuple[int, ...] = ()
        try:
            if command.terminal is not None:
                self._make_terminal(*command.terminal)
            else:
                self.stdin = self._make_input(is_pipe=command.stdin)
                self.stdout = self._make_output(captured=command.stdout)
                self.stderr = self._make_output(captured=command.stderr)
            gate, self.gate = os.pipe()
            self._keep(ours=self.gate, theirs=gate)
            self.outcome, outcome = os.pipe()
            self._keep(ours=self.outcome, theirs=outcome)
            self.report = os.memfd_create("outlast-start", os.MFD_CLOEXEC)
            self._ours.append(self.report)
            os.ftruncate(self.report, REPORT_BYTES)
        except OSError:
            close_all(self._ours + self._theirs)
            raise

    def _keep(self, *, ours: int, theirs: int) -> None:
        self._ours.append(ours)
        self._theirs.append(theirs)

    def _make_terminal(self, rows: int, cols: int) -> None:
        """Make a terminal, which is all three standard descriptors, and belongs to the process's user."""
        from outlast.shim.launch.terminal import open_terminal  # noqa: PLC0415 - most shims never have a terminal

        master, slave = open_terminal(rows, cols, self.spec.uid)
        self._keep(ours=master, theirs=slave)
        self._theirs += [os.dup(slave), os.dup(slave)]  # one for each standard descriptor, as in other starts
        self.stdin, self.stdout = master, os.dup(master)
        self._ours.append(self.stdout)
        self.relay = os.pipe()
        self._ours += self.relay

    def _make_input(self, *, is_pipe: bool) -> int | None:
        if not is_pipe:
            self._theirs.append(os.open(os.devnull, os.O_RDONLY))
            return None
        read_end, write_end = self._make_pipe()
        self._keep(ours=write_end, theirs=read_end)
        return write_end

    def _make_output(self, *, captured: bool) -> int | None:
        if not captured:
            self._theirs.append(os.open(os.devnull, os.O_WRONLY))
            return None
        read_end, write_end = self._make_pipe()
        self._keep(ours=read_end, theirs=write_end)
        widen_pipe(read_end)
        return read_end

    def _make_pipe(self) -> tuple[int, int]:
        """Make a pipe that belongs to the process's user, who may open it again as /dev/stdin or /dev/stdout."""
        ends = os.pipe()
        if self.spec.uid is not None and self.spec.gid is not None:
            with contextlib.suppress(OSError):  # the system refuses that, and the process writes to what it inherits
                os.fchown(ends[0], self.spec.uid, self.spec.gid)  # both ends are one inode
        return ends

    @property
    def fds(self) -> list[int]:
        """Descriptors that the fork helper needs: the five that `exec_child` takes, and the report file."""
        return [*self._theirs, self.report]

    def fork(self) -> None:
        """Fork this process; or note in `refused` why that is not possible now."""
        try:
            with map_report(self.report) as report:
                self.pid = os.fork()
                if self.pid == 0:
                    exec_child(self.spec, self._theirs, report, _changed_signals())
        except OSError as exc:
            self.refused = exc

    def abandon(self) -> None:
        """Close all descriptors, the gate among them: a process that was forked ends without running its program."""
        close_all(self._theirs + self._ours)

    def finish(self) -> None:
        """Close the child's descriptors; if the start is refused, all of them."""
        if self.refused is None:
            try:
                self.pidfd = pidfd_open(self.pid)
            except OSError as exc:
                self.refused = exc
        if self.refused is not None:
            self.abandon()
            return
        close_all(self._theirs)
        for fd in self._ours:
            os.set_blocking(fd, False)


def fork_here(starts: Sequence[Start]) -> None:
    """Fork this process, where the fork helper cannot be used.

    The forks follow each other at once: after a fork, the kernel copies each page that this process writes to, and the
    next fork has to share all of them again.
    """
    # A signal between fork and exec would run this process's handlers in the child, on shared descriptors.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*TERMINAL_SIGNALS, *_changed_signals()})
    try:
        for start in starts:
            start.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

"""The part of an init that keeps the daemon running, and ends everything on SIGTERM."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outlast.linux import lock
from outlast.linux.process import has_ended, pidfd_open
from outlast.shim.event_loop import Loop
from outlast.shim.log import log
from outlast.wire.contract import BLOCKED_SIGNALS, DAEMON_LOCK_NAME

_BETWEEN_STARTS_S = 1.0
"""Minimum time between two starts of the daemon, so that one that crashes at once costs little."""
_TAKEOVER_S = 0.1
"""Time that `outlast shutdown` needs, after it has ended the daemon, to take the daemon's lock."""
_LOCK_RETRY_S = 0.2
_COMES_UP_S = 15.0
"""Time after which the log says that no daemon has come up yet."""
_DOWN_TRIES = 3
_BETWEEN_DOWNS_S = 1.0
_DOWN_FINISHES_S = 10.0
_DOWN_LOOK_AGAIN_S = 0.01
_EXIT_NOT_RUN = 127
"""Exit code of a child that could not run its program, as a shell's."""
_RESET_SIGNALS = (*BLOCKED_SIGNALS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals whose actions this process has changed, which would survive an exec, or which may be pending."""


class DaemonSupervisor:
    """A supervisor of the daemon: starts it, and again when it has ended and no other daemon serves the state folder.

    SIGTERM and SIGINT run `outlast shutdown`, which ends everything, this process included. Daemon and `shutdown` have
    sessions of their own: signals of a terminal reach this process only, which decides what follows.
    """

    def __init__(
        self, *, state_dir: Path, command: Sequence[str], down: Sequence[str], open_files: int, end_within_s: float
    ) -> None:
        """Do nothing yet: `run_on` starts the daemon.

        Args:
            state_dir: the state folder.
            command: runs the daemon, with this process's environment, working directory and standard streams.
            down: ends everything for the state folder, in order.
            open_files: the soft limit on open files that both get.
            end_within_s: time after which `shutdown` is no longer waited for.
        """
        self.exit_code = 0
        self._state_dir = state_dir
        self._daemon_lock = state_dir / DAEMON_LOCK_NAME
        self._command = command
        self._down_command = down
        self._open_files = open_files
        self._end_within_s = end_within_s
        self._daemon_pid = 0
        self._down_pid = 0
        self._down_tries = 0
        self._started_at = 0.0
        self._came_up = False
        self._ending = False
        self._served_by: int | None = None

    def run_on(self, loop: Loop, end: Callable[[], None]) -> None:
        """Start the daemon, on a loop that handles signals. `end` is called to end the shim without being asked."""
        self._loop = loop
        self._end = end
        loop.on_end_signal = self._end_in_order
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
        if not self._daemon_pid:
            loop.call_later(0.0, self._start_daemon)
        loop.call_later(_COMES_UP_S, self._log_if_not_up)

    @property
    def is_ending(self) -> bool:
        """Whether everything is being ended."""
        return self._ending

    def dump_state(self) -> tuple[dict[str, Any], list[int]]:
        """Return what the next version of this program needs (see `resume`), and descriptors to keep open."""
        fds = [] if self._served_by is None else [self._served_by]
        return {
            "state_dir": str(self._state_dir),
            "command": list(self._command),
            "down": list(self._down_command),
            "open_files": self._open_files,
            "end_within_s": self._end_within_s,
            "daemon_pid": self._daemon_pid,
            "came_up": self._came_up,
            "served_by": self._served_by,
        }, fds

    @classmethod
    def resume(cls, state: dict[str, Any]) -> "DaemonSupervisor":
        """Make the supervisor of an earlier program in this process from its state."""
        supervisor = cls(
            state_dir=Path(state["state_dir"]),
            command=state["command"],
            down=state["down"],
            open_files=state["open_files"],
            end_within_s=state["end_within_s"],
        )
        supervisor._daemon_pid = state["daemon_pid"]
        supervisor._came_up = state["came_up"]
        supervisor._served_by = state["served_by"]
        if supervisor._served_by is not None:
            os.set_inheritable(supervisor._served_by, False)
        return supervisor

    # ---- what the shim reports

    def on_greeted(self) -> None:
        """Note which process serves: a daemon, or a `shutdown` in its place, has greeted the shim, has the lock."""
        self._came_up = True
        if self._served_by is not None:
            os.close(self._served_by)
            self._served_by = None
        pid = lock.holder(self._daemon_lock)
        if pid is not None and pid > 0:  # otherwise it is outside of this container
            with contextlib.suppress(OSError):
                self._served_by = pidfd_open(pid)

    def on_reaped(self, info: Any) -> None:
        """Note the end of a child that is not one of the shim's processes; most are orphans.

        Args:
            info: what `os.waitid` returned.
        """
        if info.si_pid == self._daemon_pid:
            self._daemon_pid = 0
            self._on_daemon_ended(info)
        elif info.si_pid == self._down_pid:
            self._down_pid = 0
            self._on_down_failed()

    def wait_for_down(self) -> None:
        """Let the `shutdown` that asked the shim to end finish: it may be a child, and would die with a PID 1."""
        if self.exit_code == 0 and self._served_by is not None:
            deadline_s = time.monotonic() + _DOWN_FINISHES_S
            while not has_ended(self._served_by) and time.monotonic() < deadline_s:
                time.sleep(_DOWN_LOOK_AGAIN_S)

    # ---- the daemon

    def _start_daemon(self) -> None:
        if self._ending:
            return
        if lock.holder(self._daemon_lock) is not None:  # `shutdown` is at work, or a daemon was started by hand
            self._loop.call_later(_LOCK_RETRY_S, self._start_daemon)
            return
        self._started_at = time.monotonic()
        try:
            self._daemon_pid = self._spawn(self._command)
        except OSError as exc:
            _log(f"cannot start the daemon now: {exc.strerror}")
            self._loop.call_later(_BETWEEN_STARTS_S, self._start_daemon)

    def _log_if_not_up(self) -> None:
        if not self._came_up:
            _log(f"no daemon has come up for {self._state_dir} yet: does its command name another state folder?")

    def _on_daemon_ended(self, info: Any) -> None:
        if self._ending:
            return
        exited = info.si_code == os.CLD_EXITED
        how = f"ended with code {info.si_status}" if exited else f"was killed by signal {info.si_status}"
        if exited and not self._came_up:
            _log(f"the daemon {how} before it had come up: it is not started again, because it would fail again")
            self.exit_code = info.si_status
            self._end()
            return
        _log(f"the daemon {how}; it is started again")
        lived_s = time.monotonic() - self._started_at
        self._loop.call_later(max(_TAKEOVER_S, _BETWEEN_STARTS_S - lived_s), self._start_daemon)

    # ---- the end

    def _end_in_order(self, number: int) -> None:
        if self._ending:
            return
        self._ending = True
        _log(f"{signal.Signals(number).name}: ending everything")
        self._loop.call_later(self._end_within_s, lambda: self._give_up("takes too long"))
        self._start_down()

    def _start_down(self) -> None:
        self._down_tries += 1
        try:
            self._down_pid = self._spawn(self._down_command)
        except OSError:
            self._on_down_failed()

    def _on_down_failed(self) -> None:
        """Try `shutdown` again: it has ended, and the shim was not asked to end."""
        if self._down_tries < _DOWN_TRIES:
            self._loop.call_later(_BETWEEN_DOWNS_S, self._start_down)
        else:
            self._give_up("has failed")

    def _give_up(self, why: str) -> None:
        _log(f"`outlast shutdown` {why}: all processes are killed, and their exits are not recorded")
        self.exit_code = 1
        self._end()

    def _spawn(self, command: Sequence[str]) -> int:
        """Start a program as a child, and return its pid. It is reaped with all others.

        Raises:
            OSError: no process can be made now.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._exec(command)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid

    def _exec(self, command: Sequence[str]) -> None:
        """Become the program. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            for number in _RESET_SIGNALS:
                # A terminal's signal from before the session is not for the program: ignoring it drops pending ones.
                signal.signal(number, signal.SIG_IGN)
                signal.signal(number, signal.SIG_DFL)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._open_files, hard))
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvp(command[0], list(command))  # noqa: S606 - no shell is the point
        except OSError as exc:
            _log(f"cannot run {command[0]}: {exc.strerror}")
        finally:
            os._exit(_EXIT_NOT_RUN)


def _log(sentence: str) -> None:
    log(f"outlast init: {sentence}")

"""What an init does besides looking after processes: it keeps the daemon alive, and ends everything on SIGTERM."""

import contextlib
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outlast.linux import lock
from outlast.linux.process import pidfd_open
from outlast.shim.event_loop import Loop
from outlast.shim.log import log
from outlast.wire.contract import BLOCKED_SIGNALS, DAEMON_LOCK_NAME

# Daemons are not started more often than this, so one that crashes at once costs little. One that has lived longer is
# replaced without delay.
_BETWEEN_STARTS_S = 1.0
# `outlast down` ends the daemon and then takes its lock: it needs a moment before it can be seen to have it.
_TAKEOVER_S = 0.1
_LOOK_AGAIN_S = 0.2
_COMES_UP_S = 15.0
_DOWN_TRIES = 3
_BETWEEN_DOWNS_S = 1.0
_DOWN_FINISHES_S = 10.0
_NOT_RUN = 127  # as a shell's
# What this process has set for itself and would survive an exec, or may be pending.
_RESET = (*BLOCKED_SIGNALS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


class DaemonSupervisor:
    """Starts the daemon, and starts it again whenever it has ended and nobody else serves the state folder.

    SIGTERM and SIGINT run `outlast down`, which ends everything, this process included. Both have a session of their
    own: what a terminal sends is for this process, which decides what follows from it.
    """

    def __init__(
        self, *, state_dir: Path, command: Sequence[str], down: Sequence[str], open_files: int, end_within_s: float
    ) -> None:
        """Args are data; `join` begins.

        Args:
            state_dir: whose daemon it is.
            command: runs the daemon; with this process's environment, folder and standard streams.
            down: ends all that runs for the state folder, in order.
            open_files: the soft limit that both get.
            end_within_s: after so long `down` is not waited for any more.
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

    def join(self, loop: Loop, end: Callable[[], None]) -> None:
        """Begin, on a loop that watches signals. `end` is called when the shim is to end without having been asked."""
        self._loop = loop
        self._end = end
        loop.on_end_asked = self._end_in_order
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
        if not self._daemon_pid:
            loop.later(0.0, self._start_daemon)
        loop.later(_COMES_UP_S, self._wonder)

    @property
    def is_ending(self) -> bool:
        """Whether everything is being ended."""
        return self._ending

    def state(self) -> tuple[dict[str, Any], list[int]]:
        """Return what the next version of this program needs to go on (see `resume`), and descriptors to keep open."""
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
        """Make the keeper that an earlier program in this process was."""
        keeper = cls(
            state_dir=Path(state["state_dir"]),
            command=state["command"],
            down=state["down"],
            open_files=state["open_files"],
            end_within_s=state["end_within_s"],
        )
        keeper._daemon_pid = state["daemon_pid"]
        keeper._came_up = state["came_up"]
        keeper._served_by = state["served_by"]
        if keeper._served_by is not None:
            os.set_inheritable(keeper._served_by, False)
        return keeper

    # ---- what the shim tells

    def on_greeted(self) -> None:
        """A daemon, or a `down` in its place, has greeted the shim: it holds the lock."""
        self._came_up = True
        if self._served_by is not None:
            os.close(self._served_by)
            self._served_by = None
        pid = lock.holder(self._daemon_lock)
        if pid is not None and pid > 0:  # else it is outside of this container
            with contextlib.suppress(OSError):
                self._served_by = pidfd_open(pid)

    def on_reaped(self, info: Any) -> None:
        """A child that is no process of the shim's was reaped; `info` is what `os.waitid` said. Most are orphans."""
        if info.si_pid == self._daemon_pid:
            self._daemon_pid = 0
            self._on_daemon_ended(info)
        elif info.si_pid == self._down_pid:
            self._down_pid = 0
            self._on_down_failed()

    def wait_for_who_ended_us(self) -> None:
        """The shim was asked to end: let `down` finish, which may be our child, and ends with us if we are PID 1."""
        if self.exit_code == 0 and self._served_by is not None:
            poll = select.poll()
            poll.register(self._served_by, select.POLLIN)
            poll.poll(_DOWN_FINISHES_S * 1000)

    # ---- the daemon

    def _start_daemon(self) -> None:
        if self._ending:
            return
        if lock.holder(self._daemon_lock) is not None:  # `down` is at work, or somebody serves by hand
            self._loop.later(_LOOK_AGAIN_S, self._start_daemon)
            return
        self._started_at = time.monotonic()
        try:
            self._daemon_pid = self._run(self._command)
        except OSError as exc:
            _log(f"the daemon can't be started now: {exc.strerror}")
            self._loop.later(_BETWEEN_STARTS_S, self._start_daemon)

    def _wonder(self) -> None:
        if not self._came_up:
            _log(f"no daemon has come up for {self._state_dir} yet: does its command name another state folder?")

    def _on_daemon_ended(self, info: Any) -> None:
        if self._ending:
            return
        exited = info.si_code == os.CLD_EXITED
        how = f"ended with code {info.si_status}" if exited else f"was killed by signal {info.si_status}"
        if exited and not self._came_up:
            _log(f"the daemon {how} before it had come up: that is not mended by starting it again")
            self.exit_code = info.si_status
            self._end()
            return
        _log(f"the daemon {how}; it is started again")
        lived_s = time.monotonic() - self._started_at
        self._loop.later(max(_TAKEOVER_S, _BETWEEN_STARTS_S - lived_s), self._start_daemon)

    # ---- the end

    def _end_in_order(self, number: int) -> None:
        if self._ending:
            return
        self._ending = True
        _log(f"{signal.Signals(number).name}: ending everything")
        self._loop.later(self._end_within_s, lambda: self._give_up("takes too long"))
        self._run_down()

    def _run_down(self) -> None:
        self._down_tries += 1
        try:
            self._down_pid = self._run(self._down_command)
        except OSError:
            self._on_down_failed()

    def _on_down_failed(self) -> None:
        """It has ended, and we are still here."""
        if self._down_tries < _DOWN_TRIES:
            self._loop.later(_BETWEEN_DOWNS_S, self._run_down)
        else:
            self._give_up("has failed")

    def _give_up(self, why: str) -> None:
        _log(f"`outlast down` {why}: what runs is killed, and how it ended is not recorded")
        self.exit_code = 1
        self._end()

    def _run(self, command: Sequence[str]) -> int:
        """Start a program as our child, and return its pid. It is reaped with all others.

        Raises:
            OSError: no process can be made now.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(command)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid

    def _become(self, command: Sequence[str]) -> None:
        """Become the program. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            for number in _RESET:
                # What a terminal sent before there was a session of its own is not for it: ignoring drops what waits.
                signal.signal(number, signal.SIG_IGN)
                signal.signal(number, signal.SIG_DFL)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._open_files, hard))
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvp(command[0], list(command))  # noqa: S606 - no shell is the point
        except OSError as exc:
            _log(f"{command[0]} can't be run: {exc.strerror}")
        finally:
            os._exit(_NOT_RUN)


def _log(sentence: str) -> None:
    log(f"outlast init: {sentence}")

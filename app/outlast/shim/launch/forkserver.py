"""The shim's end of `forker.py`, which forks in its place: what a start costs does not grow with what the shim holds.

A fork copies a process's memory map and its table of descriptors, and afterwards each page that either writes to. The
shim has the buffers and five descriptors of each process that it looks after.
"""

import contextlib
import errno
import marshal
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from outlast.linux.process import pidfd_open, signal_process
from outlast.shim.launch.exec_child import ExecSpec
from outlast.shim.launch.forker import HELLO, ORDER, RESULT, receive
from outlast.shim.log import log

CANNOT = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})
"""What the system, or what guards it, answers when it has no such fork. All else is for want of something."""

# It takes a millisecond. One that was stopped must not stop the shim with it.
_ANSWER_S = 10.0
_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from outlast.shim.launch import forker; forker.main(int(sys.argv[2]))"
)


class ForkServer:
    """Starts it when it is first needed, and again when it is gone. It is our child, to be reaped like any other."""

    def __init__(self, state_dir: Path) -> None:
        """`state_dir` is for who looks at the list of processes."""
        self._state_dir = state_dir
        self._pidfd = -1
        self._sock: socket.socket | None = None
        self._given_up = False

    def is_usable(self) -> bool:
        """Tell whether processes can be forked by it; it is there then."""
        if self._sock is not None and _is_closed(self._sock):
            self._leave()
        if self._sock is None and not self._given_up:
            try:
                self._sock = self._start()
            except OSError as exc:
                log(f"the shim forks by itself from now on: its helper does not start: {exc}")
                self.give_up()
        return self._sock is not None

    def give_up(self) -> None:
        """It can't do here what it is for: it is left alone for good."""
        self._given_up = True
        self._leave()

    def fork(self, orders: Sequence[tuple[ExecSpec, Sequence[int]]]) -> list[int]:
        """Fork processes which become what is ordered, each in a session of its own; each waits at its gate.

        Args:
            orders: with the descriptors that `program.become` takes, and the report. They stay the caller's.

        Returns:
            The pid of each, or an error's number as a negative one: this one was not forked. With EAGAIN it may have
            been, and ends when the gate is closed.
        """
        sock = self._sock
        assert sock is not None  # noqa: S101 - is_usable() was asked
        results: list[int] = []
        try:
            for order, fds in orders:
                data = marshal.dumps(tuple(order))
                socket.send_fds(sock, [ORDER.pack(len(data))], fds)
                sock.sendall(data)
            while len(results) < len(orders):
                (result,) = RESULT.unpack(receive(sock, RESULT.size))
                results.append(result)
        except OSError as exc:  # it was ended or stopped: what it did last is not known
            log(f"the shim's helper is gone, and {len(orders) - len(results)} starts with it: {exc!r}")
            self._leave()
        return results + [-errno.EAGAIN] * (len(orders) - len(results))

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                theirs.set_inheritable(True)
                pid = os.posix_spawn(
                    sys.executable,
                    [
                        *(sys.executable, "-I", "-S", "-c", _PROGRAM),
                        *(str(_ROOT), str(theirs.fileno()), str(self._state_dir)),
                    ],
                    os.environ,
                    setsigmask=(),
                    setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                )
            self._pidfd = pidfd_open(pid)
            ours.settimeout(_ANSWER_S)
            said = receive(ours, len(HELLO))
            if said != HELLO:
                raise ConnectionError(f"it says {said!r}")
        except OSError:
            ours.close()
            raise
        return ours

    def _leave(self) -> None:
        """End it. It ends by itself when its socket is closed, unless it is stopped."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal_process(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1


def _is_closed(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))

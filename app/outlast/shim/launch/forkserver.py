"""The shim's end of the fork helper (`forker.py`): with it, the cost of a start does not grow with what the shim holds.

A fork copies the memory map and the descriptor table of a process, and later each page that either process writes to.
The shim has buffers and five descriptors of each of its processes.
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
from outlast.shim.launch.forker import HELLO, REQUEST, RESULT, receive_exactly
from outlast.shim.log import log

UNSUPPORTED = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})
"""Errors with which a kernel, or a filter of system calls, refuses such a fork for good. All others are shortages."""

_ANSWER_S = 10.0
"""Time after which a helper that does not answer is given up: it usually takes a millisecond, unless it is stopped."""
_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from outlast.shim.launch import forker; forker.main(int(sys.argv[2]))"
)


class ForkServer:
    """The fork helper: started when it is first needed, and again when it has gone.

    It is a child of this process, to be reaped like any other.
    """

    def __init__(self, state_dir: Path) -> None:
        """`state_dir` is shown in the list of processes."""
        self._state_dir = state_dir
        self._pid, self._pidfd = 0, -1
        self._sock: socket.socket | None = None
        self._given_up = False

    def is_usable(self) -> bool:
        """Tell whether the helper can fork processes, and start it if it does not run."""
        if self._sock is not None and _is_closed(self._sock):
            self._kill()
        if self._sock is None and not self._given_up:
            try:
                self._sock = self._start()
            except OSError as exc:
                log(f"the fork helper does not start, so the shim forks by itself from now on: {exc}")
                self.give_up()
        return self._sock is not None

    def give_up(self) -> None:
        """End the helper for good: this system does not support it."""
        self._given_up = True
        self._kill()

    def fork(self, requests: Sequence[tuple[ExecSpec, Sequence[int]]]) -> list[int]:
        """Fork processes, each in a session of its own; each waits at its gate.

        Args:
            requests: for each process its spec, and the descriptors that `exec_child` takes and the report file. The
                descriptors stay the caller's.

        Returns:
            The pid of each, or a negative errno: the process was not forked. With EAGAIN it may have been, and ends
            when its gate is closed.
        """
        sock = self._sock
        assert sock is not None  # noqa: S101 - is_usable() was asked
        results: list[int] = []
        try:
            for spec, fds in requests:
                data = marshal.dumps(tuple(spec))
                socket.send_fds(sock, [REQUEST.pack(len(data))], fds)
                sock.sendall(data)
            while len(results) < len(requests):
                (result,) = RESULT.unpack(receive_exactly(sock, RESULT.size))
                results.append(result)
        except OSError as exc:  # the helper was killed or stopped
            log(f"the fork helper has gone, and {len(requests) - len(results)} starts with it: {exc!r}")
            self._kill()
        return results + [-errno.EAGAIN] * (len(requests) - len(results))

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                theirs.set_inheritable(True)
                self._pid = os.posix_spawn(
                    sys.executable,
                    [
                        *(sys.executable, "-I", "-S", "-c", _PROGRAM),
                        *(str(_ROOT), str(theirs.fileno()), str(self._state_dir)),
                    ],
                    os.environ,
                    setsigmask=(),
                    setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                )
            self._pidfd = pidfd_open(self._pid)
            ours.settimeout(_ANSWER_S)
            hello = receive_exactly(ours, len(HELLO))
            if hello != HELLO:
                raise ConnectionError(f"it greets with {hello!r}, expected {HELLO!r}")
        except OSError:
            ours.close()
            raise
        return ours

    def _kill(self) -> None:
        """End the helper. It ends by itself when its socket is closed, unless it is stopped."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal_process(self._pidfd, self._pid, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1


def _is_closed(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))

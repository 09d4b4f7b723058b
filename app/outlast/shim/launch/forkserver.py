"""The shim's end of the fork helper (`forker.py`): with it, the cost of a start does not grow with what the shim holds.

A fork copies the memory map and the descriptor table of a process, and later each page that either process writes to.
The shim has buffers and five descriptors of each of its processes.
"""

import contextlib
import errno
import marshal
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from outlast.linux.process import pidfd_open, signal_process
from outlast.shim.event_loop import IN, OUT, Loop
from outlast.shim.launch.exec_child import ExecSpec
from outlast.shim.launch.forker import HELLO, REQUEST, RESULT
from outlast.shim.log import log

UNSUPPORTED = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL})
"""Errors with which a kernel, or a filter of system calls, refuses such a fork for good. All others are shortages."""

_HELLO_S = 4.0
"""Time after which a helper that has not greeted is given up: it usually takes 16 milliseconds."""
_ANSWER_S = 2.0
"""Time after which a helper that does not answer is given up: it usually takes a millisecond, unless it is stopped."""
_TRIES = 2
"""Number of helpers in a row that are started and do not greet, before the next one has to wait."""
_PAUSE_S = 10.0
_CROWDED_S = 0.005
"""Wait after the kernel has refused to let more descriptors be on their way."""
_READ_BYTES = 4096
_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from outlast.shim.launch import forker; forker.main(int(sys.argv[2]))"
)

Answers = list[int | None]
"""For each process its pid, or a negative errno: it was not forked. None: the helper has gone without an answer.

Then the process may have been forked. It ends when its gate is closed.
"""


class ForkServer:
    """The fork helper: started when it is needed, and again when it has gone. No call waits for it.

    It is a child of this process, to be reaped like any other. A helper that does not answer in time is killed.
    """

    def __init__(self, loop: Loop, state_dir: Path) -> None:
        """`state_dir` is shown in the list of processes."""
        self._loop = loop
        self._state_dir = state_dir
        self._pid, self._pidfd = 0, -1
        self._sock: socket.socket | None = None
        self._has_greeted = False
        self._given_up = False
        self._failures = 0
        self._paused_until_s = 0.0
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._received = bytearray()
        self._answers: Answers = []
        self._count = 0
        self._on_answers: Callable[[Answers], None] | None = None
        self._wants_write = False
        self._deadline_s: float | None = None
        self._is_watching = False

    def fork(self, requests: Sequence[tuple[ExecSpec, Sequence[int]]], on_answers: Callable[[Answers], None]) -> bool:
        """Fork processes, each in a session of its own; each waits at its gate. One call at a time.

        Args:
            requests: for each process its spec, and the descriptors that `exec_child` takes and the report file. They
                stay the caller's, who keeps them open until the answers come.
            on_answers: called once, later, from the loop.

        Returns:
            False if there can be no helper now: nothing is forked, and `on_answers` is not called.
        """
        if self._sock is None and not self._start():
            return False
        for spec, fds in requests:
            data = marshal.dumps(tuple(spec))
            self._unsent.append((memoryview(REQUEST.pack(len(data)) + data), fds))
        self._count, self._on_answers = len(requests), on_answers
        if self._has_greeted:
            self._send()
            self._watch(_ANSWER_S)
        return True

    def give_up(self) -> None:
        """End the helper for good: this system does not support it."""
        self._given_up = True
        self._kill()

    # ---- life of the helper

    def _start(self) -> bool:
        if self._given_up or time.monotonic() < self._paused_until_s:
            return False
        try:
            self._sock = self._spawn()
        except OSError as exc:
            self._note_failure(f"it cannot be run: {exc}")
            self._paused_until_s = time.monotonic() + _PAUSE_S
            return False
        self._loop.add_handler(self._sock.fileno(), IN, self._on_ready)
        self._watch(_HELLO_S)
        return True

    def _spawn(self) -> socket.socket:
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
            ours.setblocking(False)
        except OSError:
            ours.close()
            raise
        return ours

    def _note_failure(self, why: str) -> None:
        self._failures += 1
        if self._failures >= _TRIES:
            self._paused_until_s = time.monotonic() + _PAUSE_S
        log(f"the fork helper does not start: {why}; until one does, the shim forks by itself")

    def _lose(self, why: str) -> None:
        """End a helper that is of no more use, and answer for it."""
        if self._has_greeted:
            log(f"the fork helper {why}: it is replaced, and {self._count - len(self._answers)} starts are repeated")
        else:
            self._note_failure(f"it {why} before it had greeted")
        self._kill()
        self._finish()

    def _kill(self) -> None:
        """End the helper. It ends by itself when its socket is closed, unless it is stopped."""
        self._has_greeted = self._wants_write = False
        self._unsent.clear()
        self._received.clear()
        if self._sock is not None:
            self._loop.remove_handler(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._deadline_s = None
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal_process(self._pidfd, self._pid, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1

    def _watch(self, within_s: float) -> None:
        """Lose the helper if nothing comes from it within a time."""
        self._deadline_s = time.monotonic() + within_s
        if not self._is_watching:
            self._is_watching = True
            self._loop.call_later(min(within_s, _ANSWER_S), self._check_deadline)

    def _check_deadline(self) -> None:
        self._is_watching = False
        if self._deadline_s is None:
            return
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            self._lose("does not answer")
        else:
            self._is_watching = True
            self._loop.call_later(min(left_s, _ANSWER_S), self._check_deadline)

    # ---- requests and answers

    def _send(self) -> None:
        assert self._sock is not None  # noqa: S101 - the callers have checked
        try:
            while self._unsent:
                data, fds = self._unsent[0]
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
                if sent == len(data):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = data[sent:], ()
        except BlockingIOError:
            pass
        except OSError as exc:
            if exc.errno == errno.ETOOMANYREFS:
                self._set_wants_write(wants=False)
                self._loop.call_later(_CROWDED_S, self._send_rest)
                return
            self._unsent.clear()  # the end of the socket can be read, too
        self._set_wants_write(wants=bool(self._unsent))

    def _set_wants_write(self, *, wants: bool) -> None:
        if self._sock is not None and wants != self._wants_write:
            self._wants_write = wants
            self._loop.set_events(self._sock.fileno(), IN | OUT if wants else IN)

    def _send_rest(self) -> None:
        if self._sock is not None and self._has_greeted:
            self._send()

    def _on_ready(self, events: int) -> None:
        assert self._sock is not None  # noqa: S101 - it has a handler
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            if events & OUT:
                self._send()
            return
        except OSError:
            data = b""
        if not data:  # all that it had answered was read before
            self._lose("has ended")
            return
        self._received += data
        if self._has_greeted or self._read_greeting():
            self._read_answers()

    def _read_greeting(self) -> bool:
        if len(self._received) < len(HELLO):
            return False
        hello = bytes(self._received[: len(HELLO)])
        if hello != HELLO:
            log(f"the fork helper greets with {hello!r}, expected {HELLO!r}: the shim forks by itself from now on")
            self.give_up()
            self._finish()
            return False
        del self._received[: len(HELLO)]
        self._has_greeted = True
        self._failures = 0
        self._watch(_ANSWER_S)
        self._send()
        return True

    def _read_answers(self) -> None:
        while len(self._received) >= RESULT.size:
            self._answers.append(RESULT.unpack_from(self._received)[0])
            del self._received[: RESULT.size]
            self._watch(_ANSWER_S)
        if len(self._answers) == self._count:
            self._finish()

    def _finish(self) -> None:
        """Pass the answers on, in which those that will not come are None."""
        self._deadline_s = None
        answers = self._answers + [None] * (self._count - len(self._answers))
        on_answers, self._on_answers = self._on_answers, None
        self._answers, self._count = [], 0
        if on_answers is not None:
            on_answers(answers)

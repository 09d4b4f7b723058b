"""epoll, timers and signals: one thread that never waits for anything else."""

import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable

from outlast.shim.log import log

IN, OUT = select.EPOLLIN, select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP


class Loop:
    """Calls handlers with the events of their descriptors (level-triggered), and actions when their time has come."""

    def __init__(self, on_hangup: Callable[[], None]) -> None:
        """`on_hangup` is called after SIGHUP."""
        self._on_hangup = on_hangup
        self.on_end_asked: Callable[[int], None] = _log_ignored
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._closed_this_round: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever `fd` is ready. BROKEN is always among the events."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Change what a watched descriptor is watched for."""
        self._epoll.modify(fd, events)

    def watches(self, fd: int) -> bool:
        """Tell whether a descriptor is watched."""
        return fd in self._handlers

    def unwatch(self, fd: int) -> None:
        """Stop watching."""
        self._epoll.unregister(fd)
        del self._handlers[fd]
        self._closed_this_round.add(fd)

    def close(self, fd: int) -> None:
        """Stop watching, if it is watched, and close."""
        if self.watches(fd):
            self.unwatch(fd)
        os.close(fd)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `delay_s`."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_numbers), action))

    def run_once(self) -> None:
        """Wait for something to do, and do all that is ready."""
        self._closed_this_round.clear()
        timeout_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for fd, events in self._epoll.poll(timeout_s):
            # An earlier event of this round may have closed it, and its number may be in use again.
            if fd not in self._closed_this_round:
                self._handlers[fd](events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def watch_signals(self, on_child_ended: Callable[[], None]) -> None:
        """Call `on_child_ended` after SIGCHLD. What would end this process does not: `on_end_asked` is told."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _only_wake)

        def on_signal(_events: int) -> None:
            for number in os.read(reader, 4096):
                if number == signal.SIGHUP:
                    self._on_hangup()
                elif number != signal.SIGCHLD:
                    self.on_end_asked(number)
            on_child_ended()

        self.watch(reader, IN, on_signal)


def _log_ignored(number: int) -> None:
    """SIGTERM and SIGINT are nothing to a shim that is nobody's init."""
    log(f"ignored {signal.Signals(number).name}: `outlast down` ends the shim")


def _only_wake(_number: int, _frame: object) -> None:
    """A handler must exist for the wakeup descriptor to be written; the loop acts."""

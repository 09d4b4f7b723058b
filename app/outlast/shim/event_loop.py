"""epoll, timers and signals: one thread that waits for nothing else."""

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
    """An event loop: calls handlers with the events of their descriptors (level-triggered), and actions when due."""

    def __init__(self, on_hangup: Callable[[], None]) -> None:
        """`on_hangup` is called after SIGHUP."""
        self._on_hangup = on_hangup
        self.on_end_signal: Callable[[int], None] = _log_ignored
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._closed_this_round: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()

    def add_handler(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever `fd` is ready. BROKEN is always among the events."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def set_events(self, fd: int, events: int) -> None:
        """Change the events for which the handler of a descriptor is called."""
        self._epoll.modify(fd, events)

    def has_handler(self, fd: int) -> bool:
        """Tell whether a descriptor has a handler."""
        return fd in self._handlers

    def remove_handler(self, fd: int) -> None:
        """Stop calling the handler of a descriptor."""
        self._epoll.unregister(fd)
        del self._handlers[fd]
        self._closed_this_round.add(fd)

    def close_fd(self, fd: int) -> None:
        """Close a descriptor, and remove its handler if it has one."""
        if self.has_handler(fd):
            self.remove_handler(fd)
        os.close(fd)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `delay_s`."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_numbers), action))

    def run_once(self) -> None:
        """Wait until something is ready or due, and handle all that is."""
        self._closed_this_round.clear()
        timeout_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for fd, events in self._epoll.poll(timeout_s):
            # An earlier event of this round may have closed it, and its number may be in use again.
            if fd not in self._closed_this_round:
                self._handlers[fd](events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def handle_signals(self, on_child_ended: Callable[[], None]) -> None:
        """Call `on_child_ended` after SIGCHLD, `on_hangup` after SIGHUP, `on_end_signal` after SIGTERM and SIGINT."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _wake)

        def on_signal(_events: int) -> None:
            for number in os.read(reader, 4096):
                if number == signal.SIGHUP:
                    self._on_hangup()
                elif number != signal.SIGCHLD:
                    self.on_end_signal(number)
            on_child_ended()

        self.add_handler(reader, IN, on_signal)


def _log_ignored(number: int) -> None:
    """Ignore SIGTERM and SIGINT, as a shim does that is not an init."""
    log(f"ignored {signal.Signals(number).name}: `outlast shutdown` ends the shim")


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: Python writes to the wakeup descriptor only where there is a handler, and the loop acts."""

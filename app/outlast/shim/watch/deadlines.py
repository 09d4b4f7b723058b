"""Killing processes whose timeout is over, or that were told to end in time, also while no daemon is there.

A deadline is a time of the system's monotonic clock, which all programs share: the daemon, a shim that takes over and
the next version of this program get it as it is.
"""

import signal
import time
from collections.abc import Callable, Mapping

from outlast.linux.process import has_ended
from outlast.shim.event_loop import Loop
from outlast.shim.state.child import Child


def _monotonic_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000


class Deadlines:
    """The running processes that have a deadline. One timer waits for the first of the deadlines."""

    def __init__(self, loop: Loop, kill: Callable[[str], object]) -> None:
        """`kill` is called with the id of a process whose deadline has passed."""
        self._loop = loop
        self._kill = kill
        self._by_slot: dict[int, Child] = {}
        self._next_ms: int | None = None

    def schedule(self, child: Child) -> None:
        """Kill a process when its timeout is over. The time runs from the first call for the process."""
        if child.reaped:
            return
        if child.timeout_ms is not None and child.deadline_ms is None:
            child.deadline_ms = _monotonic_ms() + child.timeout_ms
        due_ms = _due_ms(child)
        if due_ms is not None:
            self._by_slot[child.slot] = child
            self._wake_at(due_ms)

    def stop_within(self, child: Child, grace_ms: int) -> None:
        """Kill a process that was told to end when `grace_ms` is over. An earlier stop may make that sooner."""
        stop_by_ms = _monotonic_ms() + grace_ms
        child.stop_by_ms = stop_by_ms if child.stop_by_ms is None else min(child.stop_by_ms, stop_by_ms)
        self.schedule(child)

    def cancel(self, child: Child) -> None:
        """Forget the deadline of a process."""
        self._by_slot.pop(child.slot, None)

    def _wake_at(self, deadline_ms: int) -> None:
        if self._next_ms is None or deadline_ms < self._next_ms:
            self._next_ms = deadline_ms
            self._loop.call_later(max(0, deadline_ms - _monotonic_ms()) / 1000, self._kill_overdue)

    def _kill_overdue(self) -> None:
        self._next_ms = None
        now_ms = _monotonic_ms()
        for child in tuple(self._by_slot.values()):
            due_ms = _due_ms(child) or 0
            if due_ms > now_ms:
                self._wake_at(due_ms)
            else:
                del self._by_slot[child.slot]
                if not has_ended(child.pidfd):  # a process that ended by itself in time is not killed
                    self._kill(child.id)


def _due_ms(child: Child) -> int | None:
    """Return when a process is to be killed; None: never."""
    times_ms = [due_ms for due_ms in (child.deadline_ms, child.stop_by_ms) if due_ms is not None]
    return min(times_ms, default=None)


def is_timed_out(child: Child, how: Mapping[str, int]) -> bool:
    """Tell whether a process that ended as `how` says was killed for its deadline, by this shim or an earlier one."""
    return (
        how.get("signal") == signal.SIGKILL and child.deadline_ms is not None and _monotonic_ms() >= child.deadline_ms
    )

"""Processes whose changes the store rejects: left alone for a while, then resumed from where the store stands."""

import asyncio
from collections.abc import Awaitable, Callable

from outlast.core.supervision.live_process import LiveProcess
from outlast.model.errors import OutlastError
from outlast.storage import AddProcess, Change, WithdrawProcess

_HOLD_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


def concerns(change: Change, live: LiveProcess) -> bool:
    """Return whether a change is about this process."""
    match change:
        case AddProcess(spec=spec):
            return spec.id == live.spec.id
        case WithdrawProcess(process_id=process_id):
            return process_id == live.spec.id
        case _:
            return change.handle == live.handle


class Quarantine:
    """The processes that are left alone, each time for longer.

    Attributes:
        reasons: by process id, why the store rejects the process's changes.
    """

    def __init__(self, resume: Callable[[str], Awaitable[None]]) -> None:
        """`resume` is called with a process's id after its time, and called again if it raises `OutlastError`."""
        self.reasons: dict[str, str] = {}
        self._resume = resume
        self._times: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def isolate(self, process_id: str, reason: str) -> None:
        """Leave a process alone, and resume it later."""
        times = self._times[process_id] = self._times.get(process_id, 0) + 1
        self.reasons[process_id] = reason
        hold_s = _HOLD_S[min(times, len(_HOLD_S)) - 1]
        self._cancel(process_id)
        self._tasks[process_id] = asyncio.create_task(self._hold(process_id, hold_s), name="quarantine")

    def discharge(self, process_id: str) -> None:
        """Forget a process that has finished, or is purged."""
        self.reasons.pop(process_id, None)
        self._times.pop(process_id, None)
        self._cancel(process_id)

    def stop(self) -> None:
        """Resume no more processes, because the daemon is stopping."""
        for process_id in tuple(self._tasks):
            self._cancel(process_id)

    def _cancel(self, process_id: str) -> None:
        task = self._tasks.pop(process_id, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _hold(self, process_id: str, hold_s: float) -> None:
        while True:
            await asyncio.sleep(hold_s)
            try:
                await self._resume(process_id)
            except OutlastError:
                continue
            self.reasons.pop(process_id, None)
            return

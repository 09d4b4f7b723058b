"""Undoing the record of a start."""

from outlast.core.supervision.live_process import LiveProcess
from outlast.storage import WithdrawProcess, WithdrawRun


def withdrawal(live: LiveProcess) -> WithdrawProcess | WithdrawRun:
    """Return the change that leaves nothing of this run; of a first one, nothing of the process."""
    if live.run.number == 1:
        return WithdrawProcess(live.spec.id)
    return WithdrawRun(live.handle, live.run.number)

"""Ending all processes and the shim."""

import asyncio
import contextlib
import signal
from collections.abc import Callable

from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotRunning, StorageUnavailable

_KILL_CONFIRM_S = 10.0


async def end_everything(
    supervisor: Supervisor, committer: Committer, store_trouble: Callable[[], str | None], grace_s: float
) -> int:
    """SIGTERM every process, SIGKILL after `grace_s`, wait for their ends to be stored, and end the shim.

    Returns:
        How many were running.

    Raises:
        StorageUnavailable: ends or output can't be stored now; the shim still has them.
    """
    link = supervisor.link
    running = [live for live in supervisor if not live.ended]
    for live in running:
        with contextlib.suppress(NotRunning, PermissionError):
            await link.signal(live.slot, signal.SIGTERM)
    await _all_of(running, grace_s)
    rest = [live for live in supervisor if not live.finished]
    for live in rest:
        await link.kill(live.key)
    finished = await _all_of(rest, _KILL_CONFIRM_S)
    trouble = store_trouble()
    if trouble is not None:
        raise StorageUnavailable(
            f"the processes were told to end, but {trouble}. "
            "The shim keeps what is not stored: make room, and do this again"
        )
    if not finished:  # something that could not be killed holds a pipe; all that it wrote so far is stored
        for live in rest:
            link.forget(live.slot)
    await committer.settled()
    await link.end_shim()
    return len(running)


async def _all_of(processes: list[LiveProcess], timeout_s: float) -> bool:
    """Wait until all are finished. False: not in time."""

    async def finished(live: LiveProcess) -> bool:
        return await live.wait(lambda: live.finished, timeout_s)

    return all(await asyncio.gather(*(finished(live) for live in processes)))

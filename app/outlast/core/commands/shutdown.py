"""Shutdown: the end of all processes and of the shim."""

import asyncio
import contextlib

from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import EndsNotStored, NotRunning

_KILL_CONFIRM_S = 10.0


async def shutdown(supervisor: Supervisor, committer: Committer, grace_s: float) -> int:
    """Send every process its stop signal, SIGKILL after `grace_s`, wait until their ends are stored, and end the shim.

    Returns:
        Number of processes that were running.

    Raises:
        EndsNotStored: ends or output cannot be stored now; the shim still has them.
    """
    running = [live for live in supervisor if not live.ended]
    for live in running:
        with contextlib.suppress(NotRunning, PermissionError):
            await repeatable.terminate(supervisor, live)
    await _wait_finished(running, grace_s)
    rest = [live for live in supervisor if not live.finished]
    for live in rest:
        await repeatable.kill(supervisor, live.key)
    finished = await _wait_finished(rest, _KILL_CONFIRM_S)
    problem = supervisor.store_problem()
    if problem is not None:
        raise EndsNotStored(
            f"the processes were told to end, but {problem}. The shim keeps what is not stored: "
            "make room or fix the error and try again, or give it up with `outlast shutdown --discard`",
            len(running),
        )
    if not finished:  # a process that could not be killed holds a pipe, or the store is slow
        left = [live for live in rest if not live.finished]
        if not all(await asyncio.gather(*(live.wait_written_stored() for live in left))):
            raise EndsNotStored(
                "the processes were told to end, but not all of their output is stored yet. The shim keeps it: try "
                "again, or give it up with `outlast shutdown --discard`",
                len(running),
            )
        for live in left:
            supervisor.link.forget(live.slot)
    await committer.wait_until_idle()
    await supervisor.link.end_shim()
    return len(running)


async def _wait_finished(processes: list[LiveProcess], timeout_s: float) -> bool:
    """Wait until all are finished. Return False after `timeout_s`."""

    async def finished(live: LiveProcess) -> bool:
        return await live.wait(lambda: live.finished, timeout_s)

    return all(await asyncio.gather(*(finished(live) for live in processes)))

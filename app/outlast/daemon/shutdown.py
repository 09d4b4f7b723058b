"""`outlast down`: end the daemon, then every process, then the shim, and record how they ended."""

import asyncio
import contextlib
import os
import signal

from outlast.config import Settings
from outlast.daemon import state_folder
from outlast.daemon.composition import running_manager
from outlast.model.errors import AlreadyServed
from outlast.shimlink import SHIM_LOG_NAME, find_running_shim
from outlast.storage import storage_from_url

_DAEMON_END_S = 30.0
_LOOK_AGAIN_S = 0.02
_TAKEOVERS = 10


async def end_everything(settings: Settings) -> int | None:
    """End what runs for this state folder. It need not have a daemon: the shim and the processes are ended, too.

    Returns:
        How many processes were running; None: nothing at all ran here.

    Raises:
        OutlastError: it can't be done; the sentence says why.
    """
    state_dir = settings.state_path
    had_daemon = False
    for _ in range(_TAKEOVERS):
        had_daemon |= await _end_daemon(settings)
        shim = await find_running_shim(state_dir)
        if shim is not None:
            shim.close()
        elif not await _left_something(settings):
            return 0 if had_daemon else None
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(state_folder.locked(state_dir))
            except AlreadyServed:
                continue  # whoever keeps the daemon alive was quicker
            # The same that a daemon does, less the socket: exits and last lines are stored like any other.
            async with running_manager(settings) as manager:
                return await manager.end_everything(settings.stop_grace_ms / 1000)
    raise AlreadyServed("the daemon is started again whenever it is ended: first stop whoever does that")


async def _left_something(settings: Settings) -> bool:
    """Tell whether something has not ended or is to be started again: shim and daemon, or the machine, were killed."""
    if not _had_shim(settings):
        return False
    storage = storage_from_url(settings.storage_url, durable=settings.durable)
    await storage.open()
    try:
        return bool(await storage.unfinished() or await storage.supervised())
    finally:
        await storage.close()


def _had_shim(settings: Settings) -> bool:
    return (settings.state_path / SHIM_LOG_NAME).exists()


async def _end_daemon(settings: Settings) -> bool:
    """SIGTERM the daemon and wait until it has let go of the lock."""
    pid = state_folder.lock_holder(settings.state_path)
    if pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # just now
        return True
    try:
        if (
            state_folder.lock_holder(settings.state_path) == pid
        ):  # so the descriptor stands for the daemon, and no later process
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DAEMON_END_S
        while state_folder.lock_holder(settings.state_path) == pid:
            if loop.time() > deadline:
                raise AlreadyServed(f"the daemon (pid {pid}) does not end; look at its log, or kill it and try again")
            await asyncio.sleep(_LOOK_AGAIN_S)
    finally:
        os.close(pidfd)
    return True

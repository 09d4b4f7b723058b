"""`outlast down`: end the daemon, then every process, then the shim, and store how the processes ended."""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace

from outlast.config import Settings
from outlast.daemon import state_folder
from outlast.daemon.composition import running_manager
from outlast.linux.process import pidfd_open, signal_process
from outlast.model.errors import AlreadyServed, EndsNotStored, StorageDamaged, StorageUnavailable
from outlast.shimlink import SHIM_LOG_NAME, find_running_shim
from outlast.storage import storage_from_url

_DAEMON_TIMEOUT_S = 30.0
_POLL_S = 0.02
_ATTEMPTS = 10
_IN_MEMORY = "memory:"


async def shutdown(settings: Settings, *, discards: bool = False) -> int | None:
    """End daemon, processes and shim of the state folder. Works without a running daemon, too.

    Args:
        settings: of the daemon.
        discards: whether to give up output and ends that the store cannot commit now.

    Returns:
        Number of processes that were running; None if neither daemon nor shim nor any process was.

    Raises:
        OutlastError: the shutdown failed.
    """
    state_dir = settings.state_path
    state_folder.check(state_dir)
    had_daemon = False
    refusal = AlreadyServed("")
    for _ in range(_ATTEMPTS):
        had_daemon |= await _end_daemon(settings)
        shim = await find_running_shim(state_dir)
        if shim is not None:
            shim.close()
        elif not await _has_unfinished(settings):
            return 0 if had_daemon else None
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(state_folder.locked(state_dir))
            except AlreadyServed as exc:
                refusal = exc
                continue  # a new daemon was started meanwhile
            return await _shut_down(settings, discards=discards)
    if not had_daemon:
        raise refusal
    raise AlreadyServed("another program restarts the daemon whenever it ends: first stop the service that does")


async def _shut_down(settings: Settings, *, discards: bool) -> int:
    """Do what a daemon without a listening socket does: exits and last lines are stored as always.

    Raises:
        StorageDamaged: the store is damaged. The processes and the shim are ended all the same.
        EndsNotStored, StorageUnavailable: the store cannot commit now. The shim keeps what is not stored.
        OutlastError: the shutdown failed.
    """
    # Where nothing can be stored, a store in memory serves to end everything. The next daemon records what is missing.
    unstored = replace(settings, storage=_IN_MEMORY)
    try:
        return await _end_all(settings)
    except StorageDamaged as damage:
        ended = await _end_all(unstored)
        raise StorageDamaged(f"{damage}. {ended} running processes were ended; how is not stored") from None
    except (EndsNotStored, StorageUnavailable) as exc:
        if not discards:
            raise
        before = exc.ended if isinstance(exc, EndsNotStored) else 0
        return before + await _end_all(unstored)


async def _end_all(settings: Settings) -> int:
    async with running_manager(settings) as manager:
        return await manager.shutdown(settings.stop_grace_ms / 1000)


async def _has_unfinished(settings: Settings) -> bool:
    """Return whether the store has processes that have not ended, or are to be restarted: the shim has been killed."""
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
    """SIGTERM the daemon, and wait until it has released the lock. Return whether one was running."""
    pid = state_folder.lock_holder(settings.state_path)
    if pid is None:
        return False
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:  # it has just ended
        return True
    try:
        # Checked after pidfd_open: the descriptor is the daemon's, not that of a later process with the same pid.
        if state_folder.lock_holder(settings.state_path) == pid:
            with contextlib.suppress(ProcessLookupError):
                signal_process(pidfd, pid, signal.SIGTERM)
                signal_process(pidfd, pid, signal.SIGCONT)  # a stopped daemon would not hear it
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DAEMON_TIMEOUT_S
        while state_folder.lock_holder(settings.state_path) == pid:
            if loop.time() > deadline:
                raise AlreadyServed(f"the daemon (pid {pid}) does not end: see its log, or kill it and try again")
            await asyncio.sleep(_POLL_S)
    finally:
        os.close(pidfd)
    return True

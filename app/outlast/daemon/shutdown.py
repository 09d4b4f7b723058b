"""`outlast shutdown`: end the daemon, then every process, then the shim, and store how the processes ended."""

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import dataclass, replace

from outlast.config import Settings
from outlast.core.manager import ProcessManager
from outlast.daemon import state_folder
from outlast.daemon.composition import running_manager
from outlast.linux.process import has_ended, pidfd_open, signal_process
from outlast.model.errors import AlreadyServed, EndsNotStored, StorageDamaged, StorageUnavailable
from outlast.model.process import ProcessQuery
from outlast.shimlink import SHIM_LOG_NAME, connected_daemon, find_running_shim
from outlast.storage import storage_from_url

_DAEMON_TIMEOUT_S = 30.0
_POLL_S = 0.02
_ATTEMPTS = 10
_ALL = 1 << 62

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownOutcome:
    """Outcome of a shutdown.

    Attributes:
        ended: number of processes that were running.
        given_up: a clause that says what the store could not take and nobody has any more; None: nothing.
    """

    ended: int
    given_up: str | None = None


async def shutdown(settings: Settings, *, discards: bool = False) -> ShutdownOutcome | None:
    """End daemon, processes and shim of the state folder. Works without a running daemon, too.

    Args:
        settings: of the daemon.
        discards: whether to give up output and ends that the store cannot commit now.

    Returns:
        None if neither daemon nor shim nor any process was running.

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
            return ShutdownOutcome(ended=0) if had_daemon else None
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


async def _shut_down(settings: Settings, *, discards: bool) -> ShutdownOutcome:
    """Do what a daemon without a listening socket does: exits and last lines are stored as always.

    Raises:
        StorageDamaged: the store is damaged. The processes and the shim are ended all the same.
        EndsNotStored, StorageUnavailable: the store cannot commit now. The shim keeps what is not stored.
        OutlastError: the shutdown failed.
    """
    try:
        async with running_manager(settings) as manager:
            return ShutdownOutcome(ended=await manager.shutdown(settings.stop_grace_ms / 1000))
    except StorageDamaged as damage:
        outcome = await _end_all_unstored(settings)
        ended = "1 running process was" if outcome.ended == 1 else f"{outcome.ended} running processes were"
        raise StorageDamaged(f"{damage}. {ended} ended; how is not stored, and {outcome.given_up}") from None
    except (EndsNotStored, StorageUnavailable) as exc:
        if not discards:
            raise
        before = exc.ended if isinstance(exc, EndsNotStored) else 0
        outcome = await _end_all_unstored(settings)
        return replace(outcome, ended=before + outcome.ended)


async def _end_all_unstored(settings: Settings) -> ShutdownOutcome:
    """End everything with a store in memory. The next daemon records what is missing in the store of the settings."""
    async with running_manager(settings, in_memory=True) as manager:
        ended = await manager.shutdown(settings.stop_grace_ms / 1000)
        return ShutdownOutcome(ended=ended, given_up=await _describe_given_up(manager))


async def _describe_given_up(manager: ProcessManager) -> str:
    """Log what the store in memory got of each process, and return a clause that says how much that is in all."""
    processes = [view.process for view in await manager.list(ProcessQuery(limit=_ALL))]
    for process in processes:
        amount = _amount(process.output.lines, process.output.bytes)
        _log.warning("given up of process %s (%s): %s", process.spec.id, process.spec.command, amount)
    lines, size = (sum(getattr(process.output, name) for process in processes) for name in ("lines", "bytes"))
    count = len(processes)
    return f"{_amount(lines, size)} of {count} process{'' if count == 1 else 'es'} are given up"


def _amount(lines: int, size: int) -> str:
    return f"{lines} line{'' if lines == 1 else 's'} of output ({size} bytes)"


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
    """SIGTERM the daemon, and wait until it has ended. Return whether one was running."""
    pid = await _find_daemon(settings)
    if pid is None:
        return False
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:  # it has just ended
        return True
    try:
        # Checked after pidfd_open: the descriptor is the daemon's, not that of a later process with the same pid.
        if await _find_daemon(settings) == pid:
            with contextlib.suppress(ProcessLookupError):
                signal_process(pidfd, pid, signal.SIGTERM)
                signal_process(pidfd, pid, signal.SIGCONT)  # a stopped daemon would not hear it
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DAEMON_TIMEOUT_S
        while not has_ended(pidfd):
            if loop.time() > deadline:
                raise AlreadyServed(f"the daemon (pid {pid}) does not end: see its log, or kill it and try again")
            await asyncio.sleep(_POLL_S)
    finally:
        os.close(pidfd)
    return True


async def _find_daemon(settings: Settings) -> int | None:
    """Return the pid of the daemon: the lock names it, or else, if the file was removed, the shim."""
    pid = state_folder.lock_holder(settings.state_path)
    return pid or await asyncio.to_thread(connected_daemon, settings.state_path)

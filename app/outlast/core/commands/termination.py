"""Killing processes, and deleting what is stored of them."""

import asyncio
import contextlib
import time

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotFound, ShimUnavailable, StorageUnavailable, Unavailable
from outlast.model.process import Process
from outlast.storage import PurgeProcess, Storage

KILL_WAIT_S = 10.0
_PURGE_DRAIN_S = 2.0
_FIRST_LOOK_S = 0.003
_LONGEST_LOOK_S = 0.2


class Termination:
    """Ends processes for good."""

    def __init__(self, storage: Storage, committer: Committer, supervisor: Supervisor, recent: ChunkCache) -> None:
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._recent = recent
        self._purging: set[int] = set()

    async def kill(self, process: Process, wait_s: float) -> bool:
        """SIGKILL a process and everything that it started. It may have ended already.

        Returns:
            Whether nothing of it is left, and its end is stored. False: not within `wait_s`.

        Raises:
            Unavailable: all is gone, and its end can't be stored now.
        """
        deadline = time.monotonic() + wait_s
        if not await self._gone(process.key, deadline):
            return False
        live = self._supervisor.get(process.spec.id)
        left_s = max(0.0, deadline - time.monotonic())
        if live is None or await live.wait(lambda: live.end_stored, self._patience_s(live, left_s)):
            return True
        if self._is_stuck(live):
            raise Unavailable(f"process {live.run.pid} was killed, but its end is not stored yet; look at it again")
        return False

    async def _gone(self, key: str, deadline: float) -> bool:
        """Kill until nothing is left. If the shim dies meanwhile, the next one goes on."""
        delay_s = _FIRST_LOOK_S
        is_gone = await self._supervisor.link.kill(key)
        while not is_gone and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(delay_s, left_s))
            delay_s = min(2 * delay_s, _LONGEST_LOOK_S)
            with contextlib.suppress(ShimUnavailable):
                is_gone = await self._supervisor.link.kill(key)
        return is_gone

    async def purge(self, process: Process, wait_s: float) -> bool:
        """Kill a process and delete its record and output.

        Returns:
            Whether it is done. False: it is not gone within `wait_s`, and nothing is deleted.

        Raises:
            NotFound: another call purges it, or has purged it.
            Unavailable: it was killed, and is not purged yet: ask again.
        """
        if self._committer.failure is not None:
            await self._supervisor.link.kill(process.key)
            raise StorageUnavailable(f"the store cannot commit now: {self._committer.failure}")
        if process.handle in self._purging:
            raise NotFound(f"process {process.run.pid} is being purged already")
        self._purging.add(process.handle)
        try:
            await self._check_stored(process)
            live = self._supervisor.get(process.spec.id)
            if process.spec.id in self._supervisor.refusals.reasons:
                await self._supervisor.link.kill(process.key)  # its end will never be stored
            elif not await self.kill(process, wait_s):
                self._purging.discard(process.handle)
                return False
            if live is not None:
                await self._let_go(live)
        except BaseException:
            self._purging.discard(process.handle)
            raise
        try:
            await self._committer.commit(PurgeProcess(process.handle))
        except StorageUnavailable:
            # It may be stored: so that nothing is there by halves, or counted and not found, it is carried through.
            self._committer.submit(PurgeProcess(process.handle), lambda _handle: self._on_purged(process, live))
            raise
        self._on_purged(process, live)
        return True

    async def _check_stored(self, process: Process) -> None:
        if await self._storage.process(process.handle) is None:  # another call was done with it just now
            raise NotFound(f"process {process.run.pid} is purged")

    async def _let_go(self, live: LiveProcess) -> None:
        if not await live.wait(lambda: live.finished, self._patience_s(live, _PURGE_DRAIN_S)):
            self._supervisor.link.forget(live.slot)
            self._supervisor.release(live)
            live.finished = True

    def _on_purged(self, process: Process, live: LiveProcess | None) -> None:
        self._purging.discard(process.handle)
        self._recent.drop(process.handle)
        self._supervisor.total -= 1
        if live is not None:
            live.wake()

    def _patience_s(self, live: LiveProcess, at_most_s: float) -> float:
        """Nothing comes of waiting for a store that takes nothing."""
        return 0 if self._is_stuck(live) else at_most_s

    def _is_stuck(self, live: LiveProcess) -> bool:
        return self._committer.failure is not None or live.spec.id in self._supervisor.refusals.reasons

"""Killing processes, and deleting what is stored of them."""

from app.core.committer import Committer
from app.core.live import LiveProcess
from app.core.recent import RecentChunks
from app.core.supervisor import Supervisor
from app.model.errors import NotFound, StorageUnavailable, Unavailable
from app.model.process import Process
from app.storage import PurgeProcess, Storage

_KILL_CONFIRM_S = 10.0
_PURGE_DRAIN_S = 2.0


class Removal:
    """Ends processes for good."""

    def __init__(self, storage: Storage, committer: Committer, supervisor: Supervisor, recent: RecentChunks) -> None:
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._recent = recent
        self._purging: set[int] = set()

    async def kill(self, process: Process) -> None:
        """SIGKILL a process and everything that it started. It may have ended already.

        Raises:
            Unavailable: it was killed, and its end is not stored yet.
        """
        await self._supervisor.link.kill(process.key)
        live = self._supervisor.get(process.spec.id)
        if live is not None and not await live.wait(lambda: live.end_stored, self._patience_s(live, _KILL_CONFIRM_S)):
            raise Unavailable(f"process {live.run.pid} was killed, but its end is not stored yet; look at it again")

    async def purge(self, process: Process) -> None:
        """Kill a process and delete its record and output.

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
            live = await self._let_go(process)
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

    async def _check_stored(self, process: Process) -> None:
        if await self._storage.process(process.handle) is None:  # another call was done with it just now
            raise NotFound(f"process {process.run.pid} is purged")

    async def _let_go(self, process: Process) -> LiveProcess | None:
        live = self._supervisor.get(process.spec.id)
        if process.spec.id in self._supervisor.refusals.reasons:
            await self._supervisor.link.kill(process.key)  # its end will never be stored
        else:
            await self.kill(process)
        if live is not None and not await live.wait(lambda: live.finished, self._patience_s(live, _PURGE_DRAIN_S)):
            self._supervisor.link.forget(live.slot)
            self._supervisor.release(live)
            live.finished = True
        return live

    def _on_purged(self, process: Process, live: LiveProcess | None) -> None:
        self._purging.discard(process.handle)
        self._recent.drop(process.handle)
        self._supervisor.total -= 1
        if live is not None:
            live.wake()

    def _patience_s(self, live: LiveProcess, at_most_s: float) -> float:
        """Nothing comes of waiting for a store that takes nothing."""
        stuck = self._committer.failure is not None or live.spec.id in self._supervisor.refusals.reasons
        return 0 if stuck else at_most_s

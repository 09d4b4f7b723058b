"""Kill and purge: ending processes, and deleting what is stored of them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import Interrupted, NotFound, NotRunning, ShimUnavailable, after_effects
from outlast.model.process import Process
from outlast.model.retention import Rule
from outlast.shimlink import KillOutcome
from outlast.storage import EndedProcess, PurgeProcess, Storage

KILL_WAIT_S = 10.0
_PURGE_DRAIN_S = 2.0
_STUCK_WAIT_S = 1.5
"""A failing store is tried again within this time: a full disk may have room for an end, though not for output."""

_FIRST_DELAY_S = 0.003
_MAX_DELAY_S = 0.2
_STOPPING = "the process was told to end, and is killed when its grace period is over: repeat the request"
_NOT_GONE = "the process was killed, but its tree is not gone yet, or its end is not stored yet: repeat the request"


class Termination:
    """The kills and purges of one daemon."""

    def __init__(self, storage: Storage, committer: Committer, supervisor: Supervisor, chunk_cache: ChunkCache) -> None:
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._chunk_cache = chunk_cache
        self._purging: set[int] = set()

    async def stop(self, process: Process, grace_ms: int, wait_s: float) -> str | None:
        """Send a process its stop signal, and kill what is left of its tree when it has ended, or after `grace_ms`.

        The shim does it, too, so that it is done if this daemon dies meanwhile, or if `wait_s` is over before.

        Returns:
            As `kill`.

        Raises:
            As `kill`.
        """
        deadline = time.monotonic() + wait_s
        live = self._supervisor.get(process.spec.id)
        if live is not None and not live.ended:
            with contextlib.suppress(NotRunning, PermissionError):
                await repeatable.terminate(self._supervisor, live, kill_after_ms=grace_ms)
            if not await live.wait(lambda: live.ended, min(grace_ms / 1000, wait_s)) and wait_s < grace_ms / 1000:
                return _STOPPING
        return await self.kill(process, max(0.0, deadline - time.monotonic()))

    async def kill(self, process: Process, wait_s: float) -> str | None:
        """SIGKILL a process and its whole tree. The process may have ended already.

        Returns:
            None if no process of the tree is left, and the end is stored; else a sentence that says what is left, or
            that the end is not stored within `wait_s`, or cannot be stored now.

        Raises:
            NoAnswer: the shim was lost or silent when it was asked, and there is no other; perhaps the tree is killed.
            ShimUnavailable: the shim cannot be reached now; nothing was done.
        """
        deadline = time.monotonic() + wait_s
        outcome = await self._kill_tree(process.key, deadline)
        if not outcome.is_gone:
            return _NOT_GONE
        live = self._supervisor.get(process.spec.id)
        left_s = max(0.0, deadline - time.monotonic())
        if live is not None and not await self._wait(live, lambda: live.end_stored, left_s):
            return _NOT_GONE
        return _explain(outcome.strays) if outcome.strays else None

    async def end(self, process: Process, wait_s: float, grace_ms: int | None = None) -> str | None:
        """Stop a process within `grace_ms`; kill it if that is None."""
        if grace_ms is None:
            return await self.kill(process, wait_s)
        return await self.stop(process, grace_ms, wait_s)

    async def _kill_tree(self, key: str, deadline: float) -> KillOutcome:
        """Kill until no process of the tree is left. If the shim dies meanwhile, the next one continues."""
        delay_s = _FIRST_DELAY_S
        outcome = await repeatable.kill(self._supervisor, key, deadline - time.monotonic())
        while not outcome.is_gone and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(delay_s, left_s))
            delay_s = min(2 * delay_s, _MAX_DELAY_S)
            with contextlib.suppress(ShimUnavailable):
                outcome = await self._supervisor.link.kill(key, outcome)
        return outcome

    async def purge(self, process: Process, wait_s: float, grace_ms: int | None = None) -> str | None:
        """Kill a process and delete its record and output.

        `grace_ms`: first stop it, as `stop` does.

        Returns:
            None if no process of the tree is left; else a sentence that says what is left. The process is purged,
            unless its tree is not gone within `wait_s`, or the store cannot commit now: then nothing is deleted.

        Raises:
            NotFound: another call purges the process, or has purged it.
            Interrupted: the process was killed, and is not purged yet.
            Unavailable: the store or the shim is not available now; nothing was done.
        """
        if process.handle in self._purging:
            raise NotFound(f"process {process.run.pid} is being purged already")
        self._purging.add(process.handle)
        left: str | None = None
        try:
            live = self._supervisor.get(process.spec.id)
            if process.spec.id in self._supervisor.quarantine.reasons:
                await repeatable.kill(self._supervisor, process.key)  # the store rejects its end, too
            elif (left := await self.end(process, wait_s, grace_ms)) in {_NOT_GONE, _STOPPING}:
                self._purging.discard(process.handle)
                return left
            with after_effects("the process was killed"):
                await self._check_not_purged(process)
                if live is not None:
                    await self._release(live)
        except BaseException:
            self._purging.discard(process.handle)
            raise
        try:
            with after_effects("the process was killed, and is purged as soon as the store can commit"):
                await self._committer.commit(PurgeProcess(process.handle))
        except Interrupted:
            # The purge may be stored all the same. It is submitted, so that the daemon's counts agree with the store.
            self._committer.submit(PurgeProcess(process.handle), lambda _: self._on_purged(process.handle, live))
            raise
        self._on_purged(process.handle, live)
        return left

    def purge_ended(self, ended: EndedProcess, rule: Rule) -> asyncio.Future[int] | None:
        """Delete record and output of a process that has ended for good, by a rule of retention, and kill nothing.

        Returns:
            A future that is done when the purge is stored; None: another call purges the process.
        """
        if ended.handle in self._purging:
            return None
        self._purging.add(ended.handle)
        change = PurgeProcess(ended.handle, rule)
        return self._committer.stored(change, lambda _: self._on_purged(ended.handle, None))

    async def _check_not_purged(self, process: Process) -> None:
        if await self._storage.process(process.handle) is None:  # another call has just purged it
            raise NotFound(f"process {process.run.pid} is purged")

    async def _release(self, live: LiveProcess) -> None:
        if not await self._wait(live, lambda: live.finished, _PURGE_DRAIN_S):
            self._supervisor.link.forget(live.slot)
            self._supervisor.release(live)
            live.finished = True

    def _on_purged(self, handle: int, live: LiveProcess | None) -> None:
        self._purging.discard(handle)
        self._chunk_cache.evict(handle)
        self._supervisor.total -= 1
        if live is not None:
            live.wake()

    async def _wait(self, live: LiveProcess, condition: Callable[[], bool], at_most_s: float) -> bool:
        """Wait until a condition is met, for `at_most_s`, or for less once the store fails."""
        while True:
            step_s = min(at_most_s, _STUCK_WAIT_S)
            is_met = await live.wait(condition, step_s)
            at_most_s -= step_s
            if is_met or at_most_s <= 0 or self._is_stuck(live):
                return is_met

    def _is_stuck(self, live: LiveProcess) -> bool:
        return self._committer.failure is not None or live.spec.id in self._supervisor.quarantine.reasons


def _explain(strays: Sequence[int]) -> str:
    pids = ", ".join(map(str, strays))
    return (
        f"the process is gone, but nothing tells whether these processes were its descendants: {pids}. They have lost "
        "their parents and all of Outlast's marks, so they were not killed: look at them, and kill them yourself"
    )

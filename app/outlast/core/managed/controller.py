"""Looking after managed processes: starting them again, stopping them in order, and what is remembered of that.

One task a process. What it decides is stored before it acts, and it acts only under the process's lock. So whoever
comes next, this daemon or another, finds what to do in the store, and no run is begun twice.
"""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.health_check import watch_health
from outlast.core.managed.next_run import RunStarter
from outlast.core.managed.registry import ManagedProcess, ManagedRegistry
from outlast.core.managed.restart_policy import Verdict, decide
from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.failpoints import failpoint
from outlast.model.errors import EnvKeyLost, NotManaged, NotRunning, OutlastError, SpawnFailed
from outlast.model.event import EventType
from outlast.model.exit_status import ExitStatus
from outlast.model.managed import Desired, HealthStatus, ManagedState
from outlast.model.options import Restart
from outlast.model.process import Process
from outlast.storage import AddEvent, SetManaged, Storage

log = logging.getLogger(__name__)

_AGAIN_S = 0.5
_KILL_CONFIRM_S = 10.0


class ManagedController:
    """Looks after the managed processes of one daemon."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        state_dir: Path,
        inherit_env: Sequence[str],
    ) -> None:
        self.table = ManagedRegistry()
        self.seal = EnvEncryption(state_dir)
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._starter = RunStarter(storage, committer, supervisor, self.seal, inherit_env)
        self._looks_after = False
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- life of the daemon

    async def open(self) -> None:
        """Find those that are to run, and those that have not ended. Nothing is started before `look_after`."""
        for process in await self._storage.supervised():
            self.table.add(ManagedProcess(process, self._supervisor.get(process.spec.id)))
        for live in self._supervisor:
            if live.spec.is_managed and self.table.get(live.spec.id) is None:
                stored = await self._storage.process(live.handle) if live.handle else None
                if stored is None:
                    self._spawn(self._take_up_recorded(live))
                else:
                    self.table.add(ManagedProcess(stored, live))

    def look_after(self) -> None:
        """Begin: what is due is started, and a stop that an earlier daemon had begun is brought to its end."""
        self._looks_after = True
        for managed in self.table:
            self._care_for(managed)

    async def close(self) -> None:
        """Leave everything to the next daemon."""
        tasks = [*self._tasks, *(managed.task for managed in self.table if managed.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop_all(self) -> None:
        """Nothing is to run any more: what runs is ended by the caller, and no daemon starts it again by itself."""
        for managed in self.table:
            if managed.wanted:
                self._remember(managed, replace(managed.state, desired=Desired.STOPPED, next_restart_at_ms=None))

    # ---- calls

    def add(self, process: Process, live: LiveProcess) -> None:
        """Look after a process that has just been started for the first time; its name is reserved."""
        managed = ManagedProcess(process, live)
        self.table.add(managed)
        self._care_for(managed)

    async def stop(self, managed: ManagedProcess) -> None:
        """Start it no more, and end it: SIGTERM to its group, SIGKILL to its tree when its grace is over.

        Goes on if the caller is cancelled.

        Raises:
            StorageUnavailable: it can't be stored now that it is to be stopped; nothing was done.
            ShimUnavailable: it is stored, and it can't be ended now: ask again.
        """
        await asyncio.shield(self._spawn(self._stop(managed)))

    async def restart(self, process: Process) -> None:
        """Stop it in order if it runs, and start it. Goes on if the caller is cancelled.

        Raises:
            NotManaged: it is none of these.
            NameInUse: it had stopped, and another has its name by now.
            SpawnFailed: it could not be started; it is tried again as its policy says.
            Unavailable: store or shim can't take it now.
        """
        if process.managed is None:
            raise NotManaged("it was started without name, restart and health_check: start it anew instead")
        managed = self.table.get(process.spec.id)
        if managed is None:
            managed = ManagedProcess(process, self._supervisor.get(process.spec.id))
            self.table.add(managed)
        await asyncio.shield(self._spawn(self._restart(managed)))

    async def _stop(self, managed: ManagedProcess) -> None:
        async with managed.lock:
            if managed.wanted:
                await self._store(managed, replace(managed.state, desired=Desired.STOPPED, next_restart_at_ms=None))
            failpoint("stop-wanted")
            await self._end_run(managed)
            self._let_go(managed)

    async def _restart(self, managed: ManagedProcess) -> None:
        async with managed.lock:
            try:
                self.table.add(managed)  # it may have stopped for good meanwhile
                plain = replace(
                    managed.state, desired=Desired.RUNNING, failures=0, next_restart_at_ms=None, last_error=None
                )
                await self._store(managed, plain)
                await self._end_run(managed)
                await self._begin(managed)
            finally:
                self._care_for(managed)

    # ---- the task of one process

    def _care_for(self, managed: ManagedProcess) -> None:
        if self._looks_after and (managed.task is None or managed.task.done()):
            managed.task = asyncio.create_task(self._look_after(managed), name=f"managed {managed.spec.id}")

    async def _look_after(self, managed: ManagedProcess) -> None:
        while managed.wanted or managed.is_up:
            try:
                await self._step(managed)
            except OutlastError as exc:
                log.warning("managed process %s: %s", managed.spec.id, exc)
                await asyncio.sleep(_AGAIN_S)
        self._let_go(managed)

    async def _step(self, managed: ManagedProcess) -> None:
        """Wait for what comes next, and do it."""
        live = managed.live
        if live is not None and not live.end_stored:
            if not managed.wanted:  # an earlier daemon has died while it stopped it
                await self._stop(managed)
                return
            await self._until_it_ends(managed, live)
            return
        async with managed.lock:
            if managed.live is not live or not managed.wanted:
                return
            await self._decide(managed)
        state = managed.state
        if state.desired is Desired.STOPPED:
            return
        wait_s = min(_wait_ms(state), _policy(managed).max_backoff_ms) / 1000
        if not await managed.wait(lambda: managed.live is not live or managed.state is not state, wait_s):
            await self._begin_due(managed, state)

    async def _until_it_ends(self, managed: ManagedProcess, live: LiveProcess) -> None:
        check = managed.spec.options.health_check
        checks = None
        if check is not None:
            checks = asyncio.create_task(watch_health(managed, live, check, self._supervisor, self._remember))
        try:
            await managed.wait(lambda: live.end_stored or managed.live is not live or not managed.wanted)
        finally:
            if checks is not None:
                checks.cancel()
        if not managed.wanted and live is managed.live:  # somebody stops it; it ends under the lock
            async with managed.lock:
                pass

    async def _decide(self, managed: ManagedProcess) -> None:
        """Store what follows from the end of its last run, unless that is done."""
        process = await self._storage.process(managed.handle)
        if process is None:  # purged
            managed.state = replace(managed.state, desired=Desired.STOPPED)
            managed.wake()
            return
        run, state = process.run, managed.state
        if run.ending is None or state.decided_run == run.number:
            return
        verdict = _decide(managed, run.ending, run.ending.ended_at_ms - run.started_at_ms, run.ending.ended_at_ms)
        decided = _after(replace(state, decided_run=run.number, last_exit=run.ending), verdict)
        await self._store_patiently(managed, decided)
        failpoint("restart-decided")

    async def _begin_due(self, managed: ManagedProcess, state: ManagedState) -> None:
        async with managed.lock:
            if managed.state is state and not managed.is_up:
                with contextlib.suppress(SpawnFailed, EnvKeyLost):  # `last_error` tells
                    await self._begin(managed)

    async def _begin(self, managed: ManagedProcess) -> None:
        """Begin the next run. A failure counts as one; what is only unavailable now does not."""
        before = await self._storage.process(managed.handle)
        managed.is_beginning = True
        try:
            live = await self._starter.begin(managed)
        except EnvKeyLost as exc:
            stopped = replace(managed.state, desired=Desired.STOPPED, next_restart_at_ms=None, last_error=str(exc))
            await self._store_patiently(managed, stopped)
            raise
        except SpawnFailed as exc:
            verdict = _decide(managed, None, 0, _now_ms())
            failed = replace(managed.state, last_error=str(exc), decided_run=before.run.number if before else 0)
            await self._store_patiently(managed, _after(failed, verdict))
            raise
        finally:
            managed.is_beginning = False
        managed.take(live)
        last_exit = before.run.ending if before else None
        self._remember(managed, replace(managed.state, next_restart_at_ms=None, last_error=None, last_exit=last_exit))
        log.info("managed process %s runs again, for the %dth time", managed.spec.id, live.run.number)

    async def _end_run(self, managed: ManagedProcess) -> None:
        """End what runs: politely, then not. It has not ended before that is stored, also if it ends by itself."""
        live = managed.live
        if live is None:
            return
        if not live.ended:
            with contextlib.suppress(NotRunning, PermissionError):
                await self._supervisor.link.signal(live.slot, signal.SIGTERM)
            if not await live.wait(lambda: live.ended, managed.spec.options.stop_grace_ms / 1000):
                await self._supervisor.link.kill(live.key)
        await live.wait(lambda: live.end_stored, _KILL_CONFIRM_S)

    def _let_go(self, managed: ManagedProcess) -> None:
        if not managed.wanted and not managed.is_up:
            self.table.remove(managed)
            managed.wake()

    async def _take_up_recorded(self, live: LiveProcess) -> None:
        """Look after one whose record is still on its way to the store."""
        self.table.reserve(live.spec)
        await live.wait(lambda: live.handle != 0)
        process = await self._storage.process(live.handle)
        if process is not None and self.table.get(live.spec.id) is None:
            self.add(process, live)

    # ---- what is remembered

    async def _store(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Store a state that somebody waits for.

        Raises:
            StorageUnavailable: it can't be done now. It may be stored all the same: what was before is put back.
        """
        before = managed.state
        try:
            await self._committer.commit(SetManaged(managed.handle, state))
        except OutlastError:
            self._committer.submit(SetManaged(managed.handle, before), lambda _handle: None)
            raise
        managed.state = state
        managed.wake()

    async def _store_patiently(self, managed: ManagedProcess, state: ManagedState) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_handle: int) -> None:
            if not stored.done():
                stored.set_result(None)

        self._committer.submit(SetManaged(managed.handle, state), done)
        await stored
        managed.state = state
        managed.wake()

    def _remember(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Store a state that nothing depends on."""
        if state.health is HealthStatus.UNHEALTHY and managed.state.health is not state.health:
            self._committer.submit(
                AddEvent(managed.handle, state.health_run, EventType.UNHEALTHY, _now_ms()), lambda _handle: None
            )
        managed.state = state
        self._committer.submit(SetManaged(managed.handle, state), lambda _handle: None)
        managed.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _policy(managed: ManagedProcess) -> Restart:
    return managed.spec.options.restart or Restart()


def _decide(managed: ManagedProcess, ending: ExitStatus | None, ran_ms: int, ended_at_ms: int) -> Verdict:
    return decide(
        _policy(managed),
        ending,
        failures=managed.state.failures,
        ran_ms=ran_ms,
        ended_at_ms=ended_at_ms,
        draw=random.random(),  # noqa: S311 - it spreads restarts, and guards nothing
    )


def _after(state: ManagedState, verdict: Verdict) -> ManagedState:
    desired = Desired.STOPPED if verdict.restart_at_ms is None else Desired.RUNNING
    return replace(state, desired=desired, failures=verdict.failures, next_restart_at_ms=verdict.restart_at_ms)


def _wait_ms(state: ManagedState) -> int:
    return max(0, (state.next_restart_at_ms or 0) - _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

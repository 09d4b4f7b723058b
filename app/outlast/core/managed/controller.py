"""Managed processes: restarted by policy, stopped in order, and remembered over daemons.

Each process has one task. What it decides is stored before it acts, and it acts only while it holds the process's lock.
So any later daemon finds in the store what to do, and no run is started twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from outlast.core.commands.start_request import StartRequest
from outlast.core.commands.starter import Starter
from outlast.core.managed import decisions
from outlast.core.managed.changes import Changes
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.exec_check import ExecCheck
from outlast.core.managed.health_watcher import HealthWatcher
from outlast.core.managed.next_run import NextRunStarter
from outlast.core.managed.readiness import FindLine
from outlast.core.managed.registry import ManagedProcess, ManagedRegistry
from outlast.core.managed.restart_policy import Decision, shortage_backoff_ms
from outlast.core.output.committer import Committer
from outlast.core.supervision import repeatable
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.spec_record import spec_from_record, spec_to_record
from outlast.core.supervision.supervisor import Supervisor
from outlast.failpoints import failpoint
from outlast.model.clock import monotonic_ms, now_ms
from outlast.model.errors import (
    EnvKeyLost,
    Interrupted,
    NotManaged,
    NotRunning,
    OutlastError,
    OutOfResources,
    SpawnFailed,
    after_effects,
)
from outlast.model.event import EventType
from outlast.model.managed import Desired, HealthStatus, ManagedState
from outlast.model.process import Process, ProcessSpec
from outlast.storage import AddEvent, SetManaged, Storage

T = TypeVar("T")

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_KILL_CONFIRM_S = 10.0
_HEALTH_EVENTS = {HealthStatus.HEALTHY: EventType.HEALTHY, HealthStatus.UNHEALTHY: EventType.UNHEALTHY}


class ManagedController:
    """The managed processes of one daemon.

    Attributes:
        registry: the processes, and the names that they hold.
        env_encryption: encrypts their environments for the store.
    """

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        supervisor: Supervisor,
        starter: Starter,
        state_dir: Path,
        find_line: FindLine,
    ) -> None:
        self.registry = ManagedRegistry()
        self.env_encryption = EnvEncryption(state_dir)
        self._storage = storage
        self._committer = committer
        self._supervisor = supervisor
        self._starter = NextRunStarter(storage, committer, supervisor, starter, self.env_encryption)
        exec_check = partial(ExecCheck, supervisor, self.env_encryption, starter.inherit_env)
        self._watcher = HealthWatcher(supervisor, exec_check, find_line, self._submit_state)
        self._changes = Changes(self.env_encryption)
        self._is_resumed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- life of the daemon

    async def open(self) -> None:
        """Register the processes that are to run, and those that have not ended. Nothing is started before `resume`."""
        for process in await self._storage.supervised():
            self.registry.register(ManagedProcess(process, self._supervisor.get(process.spec.id)))
        for live in self._supervisor:
            if live.spec.is_managed and self.registry.get(live.spec.id) is None:
                stored = await self._storage.process(live.handle) if live.handle else None
                if stored is None:
                    self._run_task(self._manage_when_recorded(live))
                else:
                    self.registry.register(ManagedProcess(stored, live))

    def resume(self, *, held: bool = False) -> None:
        """Start what is due, finish the stops that an earlier daemon has begun, and check health from now on.

        With `held`, leave alone what is in the store and does not run: only a call starts that.
        """
        self._is_resumed = True
        for managed in self.registry:
            managed.is_held = held and not managed.is_up
            if not managed.is_held:
                self._ensure_task(managed)

    async def close(self) -> None:
        """Leave all managed processes to the next daemon."""
        tasks = [*self._tasks, *(managed.task for managed in self.registry if managed.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop_all(self) -> None:
        """Submit that no process is to run, so that no daemon restarts one. The caller ends those that run."""
        for managed in self.registry:
            if managed.should_run:
                self._submit_state(managed, replace(managed.state, desired=Desired.STOPPED, next_restart_at_ms=None))

    # ---- calls

    def manage(self, process: Process, live: LiveProcess) -> None:
        """Manage a process whose first run has just been started, and whose name is reserved."""
        managed = ManagedProcess(process, live)
        self.registry.register(managed)
        self._ensure_task(managed)

    async def stop(
        self, managed: ManagedProcess, grace_ms: int | None = None, then: Callable[[], Awaitable[T]] | None = None
    ) -> T | None:
        """Stop a process for good: its stop signal to its group, and SIGKILL to its tree after its grace period.

        Continues if the caller is cancelled. `grace_ms`: another grace period than its own. `then`: done before another
        call can start the process again; its result is returned.

        Raises:
            ShimUnavailable: there is no shim now; nothing was done.
            Interrupted: the process is not restarted any more, but cannot be ended now; or it is ended, but the store
                cannot commit now that it is to stop. That is committed when the store can, unless this daemon ends
                before: try again.
        """
        return await asyncio.shield(self._run_task(self._stop(managed, grace_ms, then)))

    async def restart(self, process: Process) -> None:
        """Stop a process in order if it runs, and start its next run. Continues if the caller is cancelled.

        Raises:
            NotManaged: the process is not managed.
            NameInUse: the process had stopped, and another process has its name now.
            SpawnFailed: the run could not be started. It is restarted as the policy says.
            Unavailable: the store or the shim is not available now; nothing was done.
            Interrupted: the last run may have been stopped, and the next one is started as soon as that is possible.
        """
        managed = self.find_or_register(process)
        await asyncio.shield(self._run_task(self._restart(managed)))

    async def change(self, process: Process, request: StartRequest) -> bool:
        """Give a process another specification: stop it in order if it runs, and start its next run with it.

        If that cannot be started, the program before is started again, unless the process had stopped. Continues if
        the caller is cancelled, and with the next daemon.

        Returns:
            Whether there was anything to do: False if the process has this specification, and is to run.

        Raises:
            NotManaged, NameInUse, Unavailable, Interrupted: as for `restart`.
            SpawnFailed: the specification cannot be started; the process has the one before.
        """
        managed = self.find_or_register(process)
        return await asyncio.shield(self._run_task(self._change(managed, request)))

    def find_or_register(self, process: Process) -> ManagedProcess:
        """Return a process that may have stopped for good. Raises `NotManaged` or `NameInUse`, as `restart` does."""
        if process.managed is None:
            raise NotManaged(
                "process is not managed (it has no name, restart, health_check or ready_log), so it cannot be restarted"
            )
        managed = self.registry.get(process.spec.id)
        if managed is None:
            managed = ManagedProcess(process, self._supervisor.get(process.spec.id))
            self.registry.register(managed)
        return managed

    async def _stop(
        self, managed: ManagedProcess, grace_ms: int | None = None, then: Callable[[], Awaitable[T]] | None = None
    ) -> T | None:
        async with managed.lock:
            try:
                self._check_shim(managed)
                if managed.should_run:
                    await self._store_stop(managed)
                failpoint("stop-wanted")
                with after_effects("the process is not restarted any more"):
                    await self._end_run(managed, grace_ms, must_be_stored=managed.is_stop_stored)
                if not managed.is_stop_stored:
                    raise Interrupted("the process was ended, but it is not stored yet that it is to stop: try again")
                return None if then is None else await then()
            finally:
                self._unregister_if_over(managed)

    async def _store_stop(self, managed: ManagedProcess) -> None:
        """Store that the process is to stop; or only submit it, because no kill depends on the store."""
        stopped = replace(managed.state, desired=Desired.STOPPED, next_restart_at_ms=None)

        def on_stored(_handle: int) -> None:
            managed.is_stop_stored = True
            self._unregister_if_over(managed)

        try:
            await self._committer.commit(SetManaged(managed.handle, stopped))
        except OutlastError:
            managed.is_stop_stored = False
            self._committer.submit(SetManaged(managed.handle, stopped), on_stored)
        managed.state = stopped
        managed.wake()

    async def _restart(self, managed: ManagedProcess) -> None:
        async with managed.lock:
            try:
                await self._begin_replacement(managed, None)
                with after_effects("the restart has begun, and goes on by itself"):
                    await self._replace_run(managed)
            finally:
                self._ensure_task(managed)

    async def _change(self, managed: ManagedProcess, request: StartRequest) -> bool:
        async with managed.lock:
            try:
                wanted = await self._changes.wanted(managed.spec, request)
                if wanted == managed.spec and managed.should_run and not managed.is_held:
                    return False
                await self._begin_replacement(managed, wanted)
                with after_effects("the change has begun, and goes on by itself"):
                    await self._replace_run(managed)
                    await self._commit_state(managed, managed.state)  # and with it what was submitted before
            finally:
                self._ensure_task(managed)
        return True

    async def _begin_replacement(self, managed: ManagedProcess, wanted: ProcessSpec | None) -> None:
        """Store that another run takes the place of the current or last one."""
        self.registry.register(managed)  # it may have stopped for good since
        self._check_shim(managed)
        begun = replace(
            managed.state,
            desired=Desired.RUNNING,
            failures=0,
            next_restart_at_ms=None,
            last_error=None,
            replaced_run=managed.run_number,
            wanted=None if wanted is None else spec_to_record(wanted),
            or_stopped=wanted is not None and (not managed.should_run or managed.is_held),
        )
        await self._commit_state(managed, begun)
        managed.is_held = False
        failpoint("replacement-begun")

    async def _replace_run(self, managed: ManagedProcess) -> None:
        """End the run, if it has not ended, and start the next one: with what is wanted, else with what was there."""
        await self._end_run(managed)
        failpoint("replaced-run-ended")
        has_wanted = managed.state.wanted is not None
        try:
            await self._start_next_run(managed)
        except SpawnFailed as exc:
            if not has_wanted or not managed.should_run:
                raise
            await self._start_next_run(managed)
            sentence = f"{exc}; the process was not changed: its program before was started again"
            raise SpawnFailed(sentence, exc.errno) from None

    # ---- the task of one process

    def _ensure_task(self, managed: ManagedProcess) -> None:
        if self._is_resumed and (managed.task is None or managed.task.done()):
            managed.task = asyncio.create_task(self._manage(managed), name=f"managed {managed.spec.id}")

    async def _manage(self, managed: ManagedProcess) -> None:
        while managed.should_run or managed.is_up:
            try:
                await self._step(managed)
            except OutlastError as exc:
                log.warning("managed process %s: %s", decisions.called(managed), exc)
                await asyncio.sleep(_RETRY_S)
        async with managed.lock:
            self._unregister_if_over(managed)

    async def _step(self, managed: ManagedProcess) -> None:
        """Wait for the end of the run, or decide about a restart, or wait for the restart and do it."""
        live = managed.live
        if live is not None and not live.end_stored:
            if not managed.should_run:
                if live.ended:
                    await managed.wait(lambda: live.end_stored or managed.live is not live or managed.should_run)
                else:  # an earlier daemon has died while it stopped the process
                    await self._stop(managed)
                return
            if managed.is_replaced:  # by a call that could not finish, or by an earlier daemon
                await self._finish_replacement(managed)
            else:
                await self._wait_for_end(managed, live)
            return
        async with managed.lock:
            if managed.live is not live or not managed.should_run:
                return
            await self._decide_restart(managed)
        state = managed.state
        if state.desired is Desired.STOPPED:
            return
        wait_s = decisions.wait_ms(managed) / 1000
        if not await managed.wait(lambda: managed.live is not live or managed.state is not state, wait_s):
            await self._start_due_run(managed, state)

    async def _finish_replacement(self, managed: ManagedProcess) -> None:
        async with managed.lock:
            if managed.is_replaced:
                with contextlib.suppress(SpawnFailed, EnvKeyLost):  # they are in `last_error`
                    await self._replace_run(managed)

    async def _wait_for_end(self, managed: ManagedProcess, live: LiveProcess) -> None:
        """Check the health of a run until it ends, or is stopped."""
        async with self._watcher.watching(managed, live):
            await managed.wait(lambda: live.end_stored or managed.live is not live or not managed.should_run)
        if not managed.should_run and live is managed.live:  # a call stops the process, and holds the lock until then
            async with managed.lock:
                pass

    async def _decide_restart(self, managed: ManagedProcess) -> None:
        """Store the decision after the end of the last run, unless that is stored already."""
        process = await self._storage.process(managed.handle)
        if process is None:  # purged
            managed.state = replace(managed.state, desired=Desired.STOPPED)
            managed.wake()
            return
        run, state = process.run, managed.state
        if run.ending is None or state.decided_run == run.number:
            return
        live = managed.live
        if live is not None and live.run.number == run.number and live.clock.ended_at is not None:
            ran_ms, ago_ms = live.clock.ran_ms, monotonic_ms() - round(live.clock.ended_at * 1000)
        else:  # an earlier daemon has stored the end and died before this decision
            ran_ms, ago_ms = run.ending.ended_at_ms - run.started_at_ms, now_ms() - run.ending.ended_at_ms
        decision = Decision(0, 0) if managed.is_replaced else decisions.decide_for(managed, run.ending, ran_ms)
        decided = decisions.after(
            replace(state, decided_run=run.number, last_exit=run.ending), decision, max(0, ago_ms)
        )
        await self._store_state(managed, decided)
        failpoint("restart-decided")
        log.info(
            "managed process %s: run %d has ended (%s); %s",
            decisions.called(managed),
            run.number,
            *decisions.outlook(decided),
        )

    async def _start_due_run(self, managed: ManagedProcess, state: ManagedState) -> None:
        async with managed.lock:
            if managed.state is state and not managed.is_up:
                with contextlib.suppress(SpawnFailed, OutOfResources, EnvKeyLost):  # they are in `last_error`
                    await self._start_next_run(managed)

    async def _start_next_run(self, managed: ManagedProcess) -> None:
        """Start the next run. If it cannot be started, that counts as a failure.

        It does not count if the shim is not available, or if the system lacks something: then it is tried again for as
        long as it takes.
        """
        before = await self._storage.process(managed.handle)
        wanted = managed.state.wanted if managed.is_replaced else None
        managed.is_starting = True
        try:
            live = await self._starter.start_next_run(managed, None if wanted is None else spec_from_record(wanted))
        except EnvKeyLost as exc:
            state = decisions.settled(managed.state)
            stopped = replace(state, desired=Desired.STOPPED, next_restart_at_ms=None, last_error=str(exc))
            await self._store_failure(managed, stopped)
            raise
        except OutOfResources as exc:
            managed.shortages += 1
            short = replace(managed.state, last_error=str(exc), decided_run=before.run.number if before else 0)
            await self._store_failure(managed, decisions.due_in(short, shortage_backoff_ms(managed.shortages)))
            raise
        except SpawnFailed as exc:
            if wanted is not None:
                await self._store_failure(managed, decisions.without_wanted(managed.state, str(exc)))
                raise
            decision = decisions.decide_for(managed, None, 0)
            state = decisions.settled(managed.state)
            failed = replace(state, last_error=str(exc), decided_run=before.run.number if before else 0)
            await self._store_failure(managed, decisions.after(failed, decision, 0))
            raise
        finally:
            managed.is_starting = False
        managed.shortages = 0
        managed.attach_run(live)
        last_exit = before.run.ending if before else None
        started = replace(
            decisions.settled(managed.state),
            next_restart_at_ms=None,
            last_error=None,
            last_exit=last_exit,
        )
        self._submit_state(managed, started)
        log.info("managed process %s: run %d is started", decisions.called(managed), live.run.number)

    async def _end_run(
        self, managed: ManagedProcess, grace_ms: int | None = None, *, must_be_stored: bool = True
    ) -> None:
        """End the current run: stop signal, grace period, SIGKILL. Wait until its end is stored.

        The shim sends SIGKILL, too, so that it is sent if this daemon dies meanwhile.
        """
        live = managed.live
        if live is None:
            return
        if not live.ended:
            grace_ms = managed.spec.options.stop_grace_ms if grace_ms is None else grace_ms
            with contextlib.suppress(NotRunning, PermissionError):
                await repeatable.terminate(self._supervisor, live, kill_after_ms=grace_ms)
            if not await live.wait(lambda: live.ended, grace_ms / 1000):
                await repeatable.kill(self._supervisor, live.key)
        await live.wait(lambda: live.end_stored if must_be_stored else live.ended, _KILL_CONFIRM_S)

    def _check_shim(self, managed: ManagedProcess) -> None:
        """Check that there is a shim to end or start a run.

        Raises:
            ShimUnavailable: there is none now.
        """
        if managed.live is None or not managed.live.ended:
            _ = self._supervisor.link

    def _unregister_if_over(self, managed: ManagedProcess) -> None:
        if not managed.should_run and not managed.is_up and managed.is_stop_stored:
            self.registry.unregister(managed)
            managed.wake()

    async def _manage_when_recorded(self, live: LiveProcess) -> None:
        """Manage a process whose record is still queued for the store."""
        self.registry.reserve_name(live.spec)
        await live.wait(lambda: live.handle != 0)
        process = await self._storage.process(live.handle)
        if process is not None and self.registry.get(live.spec.id) is None:
            self.manage(process, live)

    # ---- the stored state

    async def _commit_state(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Store a state that a caller waits for.

        Raises:
            StorageUnavailable: the store cannot commit now. The state may be stored all the same, so the one before is
                submitted again.
        """
        before = managed.state
        try:
            await self._committer.commit(SetManaged(managed.handle, state))
        except OutlastError:
            self._committer.submit(SetManaged(managed.handle, before))
            raise
        managed.state = state
        managed.wake()

    async def _store_state(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Store a state, however long that takes."""
        await self._committer.stored(SetManaged(managed.handle, state))
        managed.state = state
        managed.wake()

    async def _store_failure(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Store why a run cannot be started, and log it, unless the last try failed for the same reason."""
        is_new = state.last_error != managed.state.last_error
        await self._store_state(managed, state)
        if is_new or state.desired is Desired.STOPPED:
            _, outlook = decisions.outlook(state)
            log.warning(
                "managed process %s cannot be started; %s: %s", decisions.called(managed), outlook, state.last_error
            )

    def _submit_state(self, managed: ManagedProcess, state: ManagedState) -> None:
        """Change the state now, and submit it. For states that no action depends on."""
        if state.health is not managed.state.health and state.health in _HEALTH_EVENTS:
            told = _HEALTH_EVENTS[state.health]
            self._committer.submit(AddEvent(managed.handle, state.health_run, told, now_ms()))
        managed.state = state
        self._committer.submit(SetManaged(managed.handle, state))
        managed.wake()

    def _run_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

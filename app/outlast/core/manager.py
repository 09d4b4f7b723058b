"""The product's calls: what the API, and nothing else, uses of the core."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from outlast.core.commands import users
from outlast.core.commands.idempotency import IdempotentStarts
from outlast.core.commands.shutdown import end_everything
from outlast.core.commands.start_request import StartRequest, explain, make_command, make_spec
from outlast.core.commands.starter import started
from outlast.core.commands.stdin import StandardInput
from outlast.core.commands.termination import KILL_WAIT_S, Termination
from outlast.core.managed.controller import ManagedController
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import BATCH_BYTES, Committer
from outlast.core.query.event_feed import EventFeed
from outlast.core.query.output_cursor import Cursor, FollowInterrupted, OutputQuery
from outlast.core.query.queries import Queries
from outlast.core.supervision import health
from outlast.core.supervision.buffer_limits import BufferLimits
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.core.supervision.usage_sampler import UsageSampler
from outlast.core.views import ProcessView, StartOutcome, UsageView
from outlast.failpoints import failpoint
from outlast.model.errors import Forbidden, NotFound, NotRunning, OutlastError, StorageUnavailable
from outlast.model.managed import ManagedState
from outlast.model.output import Chunk, Position
from outlast.model.process import Process, ProcessQuery, ProcessSpec, Run, SignalScope
from outlast.model.ulid import is_ulid
from outlast.shimlink import SpawnRefused
from outlast.storage import AddProcess, Storage, WithdrawProcess

log = logging.getLogger(__name__)

_STOP_COMMIT_S = 5.0
_PID_DIGITS = 10


class ProcessManager:
    """Starts, lists, follows, signals and ends processes. Between `open` and `close`, from one event loop."""

    def __init__(self, storage: Storage, state_dir: Path, room: BufferLimits, inherit_env: Sequence[str] = ()) -> None:
        """`inherit_env` names what processes get of this program's environment."""
        self._inherit_env = inherit_env
        self._storage = storage
        self._committer = Committer(storage, min(BATCH_BYTES, room.least_bytes // 4))
        self.events = EventFeed(storage)
        self.queries = Queries(storage)
        self._committer.on_committed = self.events.on_committed
        self._recent = ChunkCache()
        self._supervisor = Supervisor(storage, self._committer, self._recent, state_dir, room)
        self._keyed = IdempotentStarts(storage, self._committer, self._supervisor, start=self._start)
        self._restarts = ManagedController(storage, self._committer, self._supervisor, state_dir, inherit_env)
        self._removal = Termination(storage, self._committer, self._supervisor, self._recent)
        self._sampler = UsageSampler(storage, self._committer, lambda: self._supervisor)
        self._stdin = StandardInput(self._supervisor)
        self._cursors: set[Cursor] = set()
        self._closing = False
        self._opened_at = 0.0
        self._own = users.resolve(None)

    # ---- life of the daemon

    async def open(self) -> None:
        """Connect to the shim and take up every process. See `Supervisor.open` for what is raised."""
        self._opened_at = time.monotonic()
        self._committer.start()
        await self._supervisor.open()
        self._sampler.start()
        await self._restarts.open()

    def look_after(self) -> None:
        """Begin to start managed processes again, and to check their health."""
        self._restarts.look_after()

    async def close(self) -> None:
        """Leave the processes to the shim. What was read and is not stored yet, the shim still has."""
        self.interrupt_followers()
        await self._restarts.close()
        self._supervisor.stop()
        await self._sampler.stop()
        self.queries.close()
        await self._committer.stop(_STOP_COMMIT_S)
        await self._supervisor.close()

    def interrupt_followers(self) -> None:
        """End every `follow` with `FollowInterrupted`, and every one that begins later."""
        self._closing = True
        self.events.interrupt()
        for cursor in tuple(self._cursors):
            cursor.interrupt()
        for live in self._supervisor:
            live.wake()

    def health(self) -> str | None:
        """Return None, or one sentence that says what is wrong."""
        return health.of_store(self._committer, self._supervisor) or health.of_shim(self._supervisor)

    @property
    def uptime_s(self) -> float:
        """Seconds since `open`."""
        return time.monotonic() - self._opened_at

    def running(self) -> int:
        """Count the processes that have not ended."""
        return sum(1 for live in self._supervisor if not live.ended)

    def total(self) -> int:
        """Count the processes in the store."""
        return self._supervisor.total

    # ---- calls

    async def catch_up(self) -> None:
        """Let what has come in be stored, before what is stored is read. See `Committer.catch_up`."""
        await self._committer.catch_up()

    async def start(self, request: StartRequest) -> StartOutcome:
        """Start a process. When this returns, it runs (or has run) and is in the store.

        With an `idempotency_key` that a process has, that one is returned, as it is now: see `IdempotentStarts.start`.

        Raises:
            InvalidRequest: the key belongs to another command, or other arguments.
            NameInUse: a live process holds the name.
            SpawnFailed: it could not be started; no trace of it is kept.
            Unavailable: store or shim cannot take it now; nothing runs.
        """
        if request.idempotency_key is not None:
            process, created = await self._keyed.start(request, request.idempotency_key)
        else:
            # A caller that hangs up must not leave a process between its start and the record of it.
            process, created = await asyncio.shield(asyncio.create_task(self._start(request))), True
        return StartOutcome(view=self._view(process), created=created)

    async def _start(self, request: StartRequest) -> Process:
        if self._committer.failure is not None:
            raise StorageUnavailable(f"the store cannot commit now: {self._committer.failure}")
        identity = self._own if request.user is None else await asyncio.to_thread(users.resolve, request.user)
        spec = make_spec(request, identity)
        if spec.is_managed and request.env:
            spec = replace(spec, encrypted_env=await asyncio.to_thread(self._restarts.seal.close, request.env))
        self._restarts.table.reserve(spec)
        try:
            process, live = await self._start_first(request, spec, identity)
        except BaseException:
            self._restarts.table.free(spec)
            raise
        if spec.is_managed:
            self._restarts.add(process, live)
        return process

    async def _start_first(
        self, request: StartRequest, spec: ProcessSpec, identity: users.Identity
    ) -> tuple[Process, LiveProcess]:
        try:
            live = await self._supervisor.start(spec, make_command(request, spec, identity, self._inherit_env))
        except SpawnRefused as exc:
            raise explain(exc, spec) from None
        failpoint("start-forked")
        try:
            handle = await self._committer.commit(AddProcess(spec, live.run))
        except OutlastError:
            # It may be stored, or will be when a commit under way returns: this comes behind it.
            self._committer.submit(WithdrawProcess(spec.id), lambda _handle: None)
            await self._supervisor.undo(live)
            raise
        failpoint("start-recorded")
        self._supervisor.total += 1
        self._supervisor.begin(live, handle, Position())
        await started(live)
        managed = ManagedState() if spec.is_managed else None
        return Process(handle=handle, spec=spec, run=live.run, managed=managed), live

    async def get(self, ref: str) -> ProcessView:
        """Find a process by pid (the newest that had it), id, or name (the live one, else the newest that had it).

        Raises:
            NotFound: there is none.
        """
        process = None
        if ref.isascii() and ref.isdigit():
            process = await self._storage.process_by_pid(int(ref)) if len(ref) <= _PID_DIGITS else None
        elif is_ulid(ref.upper()):
            process = await self._storage.process_by_id(ref.upper())
        elif (holder := self._restarts.table.holder(ref)) is not None:
            process = await self._storage.process_by_id(holder)
        else:
            process = await self._storage.process_by_name(ref)
        if process is None:
            raise NotFound(f"there is no process {ref!r}: name it by its pid, id or name, as the list shows them")
        return self._view(process)

    async def list(self, query: ProcessQuery) -> list[ProcessView]:
        """List processes, in the order that the query names."""
        return [self._view(process) for process in await self._storage.processes(query)]

    async def stats(self, ref: str, run: int | None) -> UsageView:
        """Tell what a process takes of the machine. See `UsageSampler.of`."""
        process = (await self.get(ref)).process
        return await self._sampler.of(process, self._supervisor.get(process.spec.id), run)

    async def kill(self, ref: str, wait_s: float = KILL_WAIT_S) -> ProcessView | None:
        """SIGKILL a process and everything that it started. It may have ended already. See `Removal.kill`.

        A managed one is stopped for good, in order: see `ManagedController.stop`; `wait_s` counts from then on.

        Returns:
            None: all of it is gone, and its end is stored. Else it is not, after `wait_s`: the process as it is now.
        """
        process = await self._stopped((await self.get(ref)).process)
        return None if await self._removal.kill(process, wait_s) else await self.get(process.spec.id)

    async def purge(self, ref: str, wait_s: float = KILL_WAIT_S) -> ProcessView | None:
        """Kill a process and delete its record and output. See `Removal.purge`; returned is the same as by `kill`."""
        process = await self._stopped((await self.get(ref)).process)
        return None if await self._removal.purge(process, wait_s) else await self.get(process.spec.id)

    async def _stopped(self, process: Process) -> Process:
        """Stop it if it is managed, and return it as it is then."""
        managed = self._restarts.table.get(process.spec.id)
        if managed is None:
            return process
        await self._restarts.stop(managed)
        return (await self.get(process.spec.id)).process

    async def restart(self, ref: str) -> ProcessView:
        """Stop a managed process in order, if it runs, and start it. Raises what `ManagedController.restart` does."""
        process = (await self.get(ref)).process
        await self._restarts.restart(process)
        return await self.get(process.spec.id)

    async def runs(self, ref: str, *, before_number: int | None, limit: int) -> Sequence[Run]:
        """List the runs of a process, newest first."""
        process = (await self.get(ref)).process
        return await self._storage.runs(process.handle, before_number=before_number, limit=limit)

    async def signal(self, ref: str, number: int, scope: SignalScope) -> None:
        """Send a signal to a process, its group, or everything that it started.

        Raises:
            NotRunning: it has ended.
            Forbidden: the system refuses.
        """
        live = self._running(await self.get(ref))
        try:
            await self._supervisor.link.signal(live.slot, number, scope)
        except PermissionError:
            raise Forbidden("the system does not let the daemon signal all of it: some runs as another user") from None

    async def write_stdin(self, ref: str, data: AsyncIterator[bytes]) -> None:
        """Write to a process's standard input. See `StandardInput.write`."""
        await self._stdin.write(self._running(await self.get(ref)), data)

    async def close_stdin(self, ref: str) -> None:
        """Close a process's standard input. See `StandardInput.close`."""
        await self._stdin.close(self._running(await self.get(ref)))

    def output(self, process: Process, query: OutputQuery) -> AsyncGenerator[Chunk, None]:
        """Read what is stored now."""
        return self._cursor(process, query).stored()

    async def follow(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float
    ) -> AsyncGenerator[Chunk | None, None]:
        """Read as `follow_together` does, chunk by chunk; None when nothing came for `heartbeat_s`."""
        async with contextlib.aclosing(self.follow_together(process, query, heartbeat_s=heartbeat_s)) as found:
            async for chunks in found:
                for chunk in chunks or (None,):
                    yield chunk

    async def follow_together(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        """Read what is stored, then what comes, to the end. See `Cursor.follow`."""
        cursor = self._cursor(process, query)
        if self._closing:
            raise FollowInterrupted
        self._cursors.add(cursor)
        try:
            with self._committer.watching(process.handle):
                async with contextlib.aclosing(cursor.follow(heartbeat_s)) as found:
                    async for chunks in found:
                        yield chunks
                        del chunks  # it would be held until the next ones are there, which may take hours
        finally:
            self._cursors.discard(cursor)

    async def ended(self, process: Process) -> None:
        """Return when it has ended, and its end is stored.

        Raises:
            FollowInterrupted: the daemon is shutting down.
        """
        live = self._supervisor.get(process.spec.id)
        if live is not None:
            await live.wait(lambda: live.end_stored or self._closing)
            if not live.end_stored:
                raise FollowInterrupted

    async def end_everything(self, grace_s: float) -> int:
        """End every process and the shim. See `outlast.core.commands.shutdown.end_everything`."""
        await self._restarts.stop_all()
        return await end_everything(
            self._supervisor, self._committer, lambda: health.of_store(self._committer, self._supervisor), grace_s
        )

    def _view(self, process: Process) -> ProcessView:
        live = self._supervisor.get(process.spec.id)
        managed = self._restarts.table.get(process.spec.id)
        if managed is not None:
            process = replace(process, managed=managed.state)
        return ProcessView(
            process=process,
            stdin_writable=live is not None and live.stdin_open,
            starting=managed is not None and managed.is_beginning,
        )

    @property
    def is_closing(self) -> bool:
        """Whether the daemon is going: streams that end now are not over."""
        return self._closing

    def has_only_others(self, process: Process) -> bool:
        """Tell whether it has ended for good, and what was read of its output is stored: what comes, others write."""
        if self._restarts.table.get(process.spec.id) is not None:
            return False
        live = self._supervisor.get(process.spec.id)
        return live is None or (live.end_stored and not live.held.frames)

    def _running(self, view: ProcessView) -> LiveProcess:
        live = self._supervisor.get(view.process.spec.id)
        if live is None or live.ended:
            raise NotRunning(f"process {view.process.run.pid} has ended; GET it to see how")
        return live

    def _cursor(self, process: Process, query: OutputQuery) -> Cursor:
        source = self._restarts.table.get(process.spec.id) or self._supervisor.get(process.spec.id)
        return Cursor(self._storage, self._recent, process.handle, source, query)

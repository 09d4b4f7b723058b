"""The process manager: all calls that the API makes to the core.

The API uses the core's other modules only for the types, defaults and errors of these calls.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.core.commands import users
from outlast.core.commands.idempotency import IdempotentStarts
from outlast.core.commands.shutdown import shutdown
from outlast.core.commands.start_request import StartRequest, make_spec
from outlast.core.commands.starter import Starter
from outlast.core.commands.stdin import StandardInput
from outlast.core.commands.termination import KILL_WAIT_S, Termination
from outlast.core.endings import Endings
from outlast.core.followers import Followers
from outlast.core.managed.controller import ManagedController
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.managed.registry import ManagedProcess
from outlast.core.metrics import MetricsReader
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import BATCH_BYTES, Committer
from outlast.core.query.event_feed import EventFeed
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.group import GroupQuery, Item
from outlast.core.query.group_position import GroupPosition
from outlast.core.query.matcher import Matcher
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.core.query.queries import Queries
from outlast.core.query.wait_conditions import Line, WaitQuery
from outlast.core.references import References
from outlast.core.retention.census import Census
from outlast.core.retention.policy import KEEP_ALL, RetentionPolicy
from outlast.core.retention.sweeper import RetentionSweeper
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.ownership import claim_store
from outlast.core.supervision.supervisor import BufferLimits, Supervisor
from outlast.core.supervision.usage_sampler import UsageSampler
from outlast.core.views import ChangeOutcome, ProcessView, StartOutcome, UsageView
from outlast.core.waits import Waits
from outlast.linux.disk_space import warn_if_nearly_full
from outlast.model.errors import (
    Forbidden,
    NotRunning,
    OutOfResources,
    StorageUnavailable,
    after_effects,
)
from outlast.model.managed import Desired, ManagedState
from outlast.model.output import Chunk
from outlast.model.process import Process, ProcessQuery, Run, SignalScope
from outlast.model.shortage import shortages_told
from outlast.storage import Change, Storage
from outlast.wire.api_socket import ApiSocket

if TYPE_CHECKING:
    from outlast.core.terminals.sessions import Sessions

log = logging.getLogger(__name__)

_STOP_COMMIT_S = 5.0
_DISK_S = 1.0
_READ_RETRY_S = 0.5
_HELD = ManagedState(
    desired=Desired.STOPPED,
    last_error="not started here, because the store is that of another state folder: `POST .../restart` starts this "
    "process, and `outlast serve --adopt` all of them",
)
"""State that is shown of a managed process that only a call starts. What is stored says what the other folder does."""


class ProcessManager:
    """The processes of one state folder. To be used between `open` and `close`, from one event loop.

    Attributes:
        events: the events of all processes.
        queries: searches, SQL, and waits for a line.
        metrics: figures of the whole daemon.
        why_held: why the managed processes in the store are not started; None: they are.
    """

    _sessions: "Sessions | None" = None

    def __init__(
        self,
        storage: Storage,
        state_dir: Path,
        limits: BufferLimits,
        inherit_env: Sequence[str] = (),
        api_sockets: Sequence[ApiSocket] = (),
        *,
        store_is_stand_in: bool = False,
        retention: RetentionPolicy = KEEP_ALL,
    ) -> None:
        """Make the manager of a state folder.

        Args:
            storage: an open store.
            state_dir: the state folder.
            limits: the buffer limits.
            inherit_env: names of environment variables that processes inherit from the daemon.
            api_sockets: the sockets of the HTTP API, which the shim keeps when this daemon dies.
            retention: what is deleted, once `start_retention` is called.
            store_is_stand_in: see `Recovery`.
        """
        self.why_held: str | None = None
        self._storage = storage
        self._state_dir = state_dir
        self._committer = Committer(storage, min(BATCH_BYTES, limits.least_bytes // 4))
        self.events = EventFeed(storage)
        self.queries = Queries(storage)
        self._chunk_cache = ChunkCache()
        self._supervisor = Supervisor(
            storage,
            self._committer,
            self._chunk_cache,
            state_dir,
            limits,
            api_sockets,
            store_is_stand_in=store_is_stand_in,
        )
        self._starter = Starter(self._committer, self._supervisor, inherit_env)
        self._idempotent_starts = IdempotentStarts(storage, self._committer, self._supervisor, start=self._start)
        self._managed = ManagedController(
            storage, self._committer, self._supervisor, self._starter, state_dir, find_line=self._find_line
        )
        self._references = References(storage, self._managed.registry, self._supervisor)
        self._termination = Termination(storage, self._committer, self._supervisor, self._chunk_cache)
        self._endings = Endings(self._references, self._managed, self._view)
        census = Census(storage, self._supervisor, self._managed.registry)
        self._retention = RetentionSweeper(
            storage, self._committer, self._termination, self._chunk_cache, retention, census
        )
        self._committer.on_committed = self._on_committed
        self._sampler = UsageSampler(storage, self._committer, self._supervisor, self._supervisor.registered)
        self._stdin = StandardInput(self._supervisor)
        self._followers = Followers(storage, self._committer, self.events, self._references.find, self._cursor)
        self._waits = Waits(
            self._followers, self.queries, self._committer, self._supervisor, self._managed.registry, self._cursor
        )
        self.metrics = self._metrics()
        self._opened_at = 0.0
        self._own_identity = users.resolve(None)

    def _metrics(self) -> MetricsReader:
        return MetricsReader(
            storage=self._storage,
            committer=self._committer,
            supervisor=self._supervisor,
            registry=self._managed.registry,
            starter=self._starter,
            followers=lambda: (len(self._followers), self.events.followers),
            state_dir=self._state_dir,
        )

    # ---- life of the daemon

    async def open(self, *, adopt: bool = False) -> None:
        """Connect to the shim and recover every process. See `Supervisor.open` and `claim_store` for what is raised.

        `adopt`: whether to take over a store of another state folder with its managed processes.
        """
        self._opened_at = time.monotonic()
        self.why_held = await claim_store(self._storage, self._state_dir, adopt=adopt)
        self._committer.start()
        await self._supervisor.open()
        self._sampler.start()
        await self._managed.open()

    def resume_managed(self) -> None:
        """Restart managed processes, unless they are held, and check their health, from now on."""
        if self.why_held is not None:
            log.warning("%s", self.why_held)
        self._managed.resume(held=self.why_held is not None)

    def start_retention(self) -> None:
        """Delete what is not to be kept, from now on, unless the store belongs to another state folder."""
        if self.why_held is None:
            self._retention.start()

    async def close(self) -> None:
        """Leave the processes to the shim, which still has all output that is not stored."""
        self.interrupt_followers()
        await self._retention.stop()
        await self._managed.close()
        self._supervisor.stop()
        await self._sampler.stop()
        self.queries.close()
        await self._committer.stop(_STOP_COMMIT_S)
        await self._supervisor.close()

    def interrupt_followers(self) -> None:
        """End every follow stream, now and later, with `FollowInterrupted`."""
        self._followers.interrupt()
        self.events.interrupt()
        if self._sessions is not None:
            self._sessions.interrupt()
        for live in self._supervisor:
            live.wake()
        for managed in self._managed.registry:
            managed.wake()

    def health(self) -> str | None:
        """Return a sentence that says what is wrong with store or shim, or None."""
        return self._supervisor.store_problem() or self._supervisor.shim_problem()

    async def warnings(self) -> list[str]:
        """Return what an operator should decide: a sentence for each. A disk that does not answer is left out."""
        disk: str | None = None
        with contextlib.suppress(TimeoutError, OutOfResources), shortages_told("look at the disk"):
            disk = await asyncio.wait_for(asyncio.to_thread(warn_if_nearly_full, self._state_dir), _DISK_S)
        return [warning for warning in (self.why_held, disk) if warning is not None]

    @property
    def uptime_s(self) -> float:
        """Seconds since `open`."""
        return time.monotonic() - self._opened_at

    @property
    def shim_version(self) -> str | None:
        """The version of the shim's program; None while it is not connected."""
        return self._supervisor.shim_version

    @property
    def env_encryption(self) -> EnvEncryption:
        """Encryption of environments that are kept for later runs."""
        return self._managed.env_encryption

    @property
    def is_closing(self) -> bool:
        """Whether the daemon is stopping: streams that end now can be continued at the next daemon."""
        return self._followers.is_interrupted

    def running(self) -> int:
        """Return the number of processes that have not ended."""
        return sum(1 for live in self._supervisor if not live.ended)

    def total(self) -> int:
        """Return the number of processes in the store."""
        return self._supervisor.total

    def _on_committed(self, changes: Sequence[Change]) -> None:
        self.events.on_committed(changes)
        self._retention.on_committed(changes)

    async def shutdown(self, grace_s: float) -> int:
        """End every process and the shim. See `outlast.core.commands.shutdown.shutdown`."""
        await self._managed.stop_all()
        return await shutdown(self._supervisor, self._committer, grace_s)

    @property
    def sessions(self) -> "Sessions":
        """The sessions of terminals."""
        if self._sessions is None:
            from outlast.core.terminals.sessions import Sessions  # noqa: PLC0415 - most daemons have no terminal

            self._sessions = Sessions(
                self._storage, self._supervisor, self._committer, self._stdin, start=self.start, kill=self.kill
            )
            if self.is_closing:
                self._sessions.interrupt()
        return self._sessions

    # ---- processes

    async def start(self, request: StartRequest) -> StartOutcome:
        """Start a process. When this returns, it runs (or has run) and is stored.

        If a process has the request's `idempotency_key`, that process is returned: see `IdempotentStarts`.

        Raises:
            InvalidRequest: the key belongs to a start with another command or other arguments.
            NameInUse: a live process has the name.
            SpawnFailed: the process could not be started; nothing of it is kept.
            Unavailable: the store or the shim is not available now, or the system lacks resources; nothing was started.
        """
        if request.idempotency_key is not None:
            process, created = await self._idempotent_starts.find_or_start(request, request.idempotency_key)
        else:
            # If the caller is cancelled, the start continues: no process may be left without its record.
            process, created = await asyncio.shield(asyncio.create_task(self._start(request))), True
        return StartOutcome(view=self._view(process), created=created)

    async def _start(self, request: StartRequest) -> Process:
        if self._committer.failure is not None:
            raise StorageUnavailable(f"the store cannot commit now: {self._committer.failure}")
        identity = self._own_identity
        if request.user is not None:
            with shortages_told("look up the user"):
                identity = await asyncio.to_thread(users.resolve, request.user)
        spec = make_spec(request, identity)
        if spec.is_managed and request.env:
            with shortages_told("encrypt the environment"):
                encrypted_env = await asyncio.to_thread(self.env_encryption.encrypt, request.env)
            spec = replace(spec, encrypted_env=encrypted_env)
        registry = self._managed.registry
        registry.reserve_name(spec)
        try:
            live = await self._starter.start_run(spec, request.env, identity)
        except BaseException:
            registry.free_name(spec)
            raise
        managed = ManagedState() if spec.is_managed else None
        process = Process(handle=live.handle, spec=spec, run=live.run, managed=managed)
        if spec.is_managed:
            self._managed.manage(process, live)
        return process

    async def get(self, ref: str) -> ProcessView:
        """Find a process by pid, id, name or handle. See `References.find`."""
        return self._view(await self._references.find(ref))

    async def id_of(self, ref: str) -> str:
        """Return the id that a permanent reference names. See `References.id_of`."""
        return await self._references.id_of(ref)

    async def get_when_readable(self, ref: str) -> ProcessView:
        """Find a process like `get`, but wait while the store cannot be read.

        Raises:
            FollowInterrupted: the daemon is stopping.
        """
        while True:
            try:
                return await self.get(ref)
            except StorageUnavailable:
                if self.is_closing:
                    raise FollowInterrupted from None
                await asyncio.sleep(_READ_RETRY_S)

    async def list(self, query: ProcessQuery, *, with_usage: bool = False) -> list[ProcessView]:
        """List processes, in the order of the query. `with_usage`: with the resources that those use which run."""
        views = [self._view(process) for process in await self._storage.processes(query)]
        return list(map(self._with_usage, views)) if with_usage else views

    async def runs(self, ref: str, *, before_number: int | None, limit: int) -> Sequence[Run]:
        """List the runs of a process, newest first."""
        process = (await self.get(ref)).process
        return await self._storage.runs(process.handle, before_number=before_number, limit=limit)

    async def stats(self, ref: str, run: int | None) -> UsageView:
        """Return the resources that a run uses. See `UsageSampler.usage_of`."""
        process = (await self.get(ref)).process
        return await self._sampler.usage_of(process, self._supervisor.get(process.spec.id), run)

    async def signal(self, ref: str, number: int, scope: SignalScope) -> None:
        """Send a signal to a process, its group, or its tree.

        Raises:
            NotRunning: the process has ended.
            Forbidden: the system does not permit it.
        """
        live = self._running(await self._references.find_to_end(ref))
        try:
            await self._supervisor.link.signal(live.slot, number, scope)
        except PermissionError:
            raise Forbidden("the daemon may not signal every process of the tree: some run as another user") from None

    async def write_stdin(self, ref: str, data: AsyncIterator[bytes]) -> None:
        """Write to a process's standard input. See `StandardInput.write`."""
        await self._stdin.write(self._running((await self.get(ref)).process), data)

    async def close_stdin(self, ref: str) -> None:
        """Close a process's standard input. See `StandardInput.close`."""
        await self._stdin.close(self._running((await self.get(ref)).process))

    async def kill(self, ref: str, wait_s: float = KILL_WAIT_S, grace_ms: int | None = None) -> ProcessView | None:
        """SIGKILL a process and its tree; with `grace_ms`, first stop it. See `Termination.kill` and `stop`.

        A managed process is always first stopped in order (see `ManagedController.stop`); `wait_s` counts from then on.

        Returns:
            None if the tree is gone and the end is stored; else, after `wait_s`, the process as it is then, with a
            warning. If all that is left are processes of which nothing tells whose they are, that is not waited for.
        """
        return await self._endings.end(ref, self._termination.end, wait_s, grace_ms)

    async def purge(self, ref: str, wait_s: float = KILL_WAIT_S, grace_ms: int | None = None) -> ProcessView | None:
        """Kill a process and delete its record and output. See `Termination.purge`; otherwise as `kill`."""
        return await self._endings.end(ref, self._termination.purge, wait_s, grace_ms, is_last=True)

    async def restart(self, ref: str) -> ProcessView:
        """Stop a managed process in order, if it runs, and start its next run. See `ManagedController.restart`."""
        process = (await self.get(ref)).process
        await self._managed.restart(process)
        with after_effects("the process was restarted"):
            return await self.get(process.spec.id)

    async def change(self, ref: str, request: StartRequest) -> ChangeOutcome:
        """Give a managed process another specification. See `ManagedController.change`."""
        process = (await self.get(ref)).process
        changed = await self._managed.change(process, request)
        with after_effects("the process was changed"):
            return ChangeOutcome(view=await self.get(process.spec.id), changed=changed)

    async def wait_until(self, process: Process, query: WaitQuery, *, heartbeat_s: float) -> Line | bool | None:
        """Wait until a condition is met. See `Waits.until`."""
        return await self._waits.until(process, query, heartbeat_s=heartbeat_s)

    def has_ended(self, process: Process) -> bool:
        """Return whether the process has ended for good and its output is stored. See `Waits.has_ended`."""
        return self._waits.has_ended(process)

    # ---- output

    async def catch_up(self) -> None:
        """Store what is held back and what followers have seen, before a caller reads the store.

        See `Supervisor.catch_up` and `Committer.catch_up`.
        """
        if await self._supervisor.catch_up():
            self._committer.note_seen()
        await self._committer.catch_up()

    def read_output(
        self, process: Process, query: OutputQuery, *, whole_lines: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Read the output that is stored now. `whole_lines`: join the parts of each line, see `ChunkQuery`."""
        return self._cursor(process, query, whole_lines=whole_lines).stored()

    async def _find_line(self, managed: ManagedProcess, live: LiveProcess, matcher: Matcher) -> bool:
        process = Process(handle=managed.handle, spec=managed.spec, run=live.run, managed=managed.state)
        return await self._waits.for_line_of_run(process, matcher)

    def follow(self, process: Process, query: OutputQuery, *, heartbeat_s: float) -> AsyncGenerator[Chunk | None, None]:
        """Follow chunk by chunk. See `Followers.follow_chunks`."""
        return self._followers.follow_chunks(process, query, heartbeat_s=heartbeat_s)

    def follow_batches(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Chunk] | None, None]:
        """Yield the output that is stored, then what comes, to the end. See `Followers.follow`."""
        return self._followers.follow(process, query, heartbeat_s=heartbeat_s)

    async def open_group(self, query: GroupQuery) -> GroupPosition:
        """Return where the following of a group begins. See `Followers.open_group`."""
        return await self._followers.open_group(query)

    def follow_group(
        self, query: GroupQuery, position: GroupPosition, *, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Item] | None, None]:
        """Yield what a group prints after `position`. See `Followers.follow_group`."""
        return self._followers.follow_group(query, position, heartbeat_s=heartbeat_s)

    async def is_over(self, process: Process, query: OutputQuery) -> bool:
        """Return whether nothing of a process's output is left to follow. See `Followers.is_over`."""
        return await self._followers.is_over(process, query)

    def _view(self, process: Process) -> ProcessView:
        live = self._supervisor.get(process.spec.id)
        managed = self._managed.registry.get(process.spec.id)
        # A run that has not ended, as it was read, may have ended meanwhile: then what was read belongs together.
        if managed is not None and (process.run.ending is not None or managed.is_up_in(process.run.number)):
            process = replace(process, managed=_HELD if managed.is_held else managed.state)
        return ProcessView(
            process=process,
            stdin_writable=live is not None and live.stdin_open,
            starting=managed is not None and managed.is_starting,
        )

    def _with_usage(self, view: ProcessView) -> ProcessView:
        live = self._supervisor.get(view.process.spec.id)
        if live is None or live.ended or live.run.number != view.process.run.number:
            return view
        return replace(view, samples=live.usage.newest(2))

    def _running(self, process: Process) -> LiveProcess:
        live = self._supervisor.get(process.spec.id)
        if live is None or live.ended:
            raise NotRunning(f"process {process.run.pid} has ended: its record says how")
        return live

    def _cursor(self, process: Process, query: OutputQuery, *, whole_lines: bool = False) -> Cursor:
        source = self._managed.registry.get(process.spec.id) or self._supervisor.get(process.spec.id)
        return Cursor(self._storage, self._chunk_cache, process.handle, source, query, whole_lines=whole_lines)

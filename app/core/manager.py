"""The product's calls: what the API, and nothing else, uses of the core."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

from app.core import users
from app.core.committer import Committer
from app.core.events import EventFeed
from app.core.follow import Cursor, FollowInterrupted, OutputQuery
from app.core.keyed import KeyedStarts
from app.core.live import LiveProcess
from app.core.recent import RecentChunks
from app.core.removal import KILL_WAIT_S, Removal
from app.core.request import StartRequest, explain, make_command, make_spec
from app.core.room import ShimRoom
from app.core.stdin import StandardInput
from app.core.supervisor import Supervisor
from app.core.views import ProcessView, StartOutcome
from app.crash import crash_point
from app.model.errors import (
    Forbidden,
    NotFound,
    NotRunning,
    OutlastError,
    StorageUnavailable,
)
from app.model.ids import is_ulid
from app.model.output import Chunk, Position
from app.model.process import Process, ProcessQuery, SignalScope
from app.model.sql import SqlQuestion
from app.shimlink import SpawnRefused
from app.storage import AddProcess, Storage, WithdrawProcess

log = logging.getLogger(__name__)

_WITHDRAWN_S = 2.0
_KILL_CONFIRM_S = 10.0
_STOP_COMMIT_S = 5.0
_PID_DIGITS = 10


class ProcessManager:
    """Starts, lists, follows, signals and ends processes. Between `open` and `close`, from one event loop."""

    def __init__(self, storage: Storage, state_dir: Path, room: ShimRoom, inherit_env: Sequence[str] = ()) -> None:
        """`inherit_env` names what processes get of this program's environment."""
        self._inherit_env = inherit_env
        self._storage = storage
        self._committer = Committer(storage)
        self.events = EventFeed(storage)
        self._committer.on_committed = self.events.on_committed
        self._recent = RecentChunks()
        self._supervisor = Supervisor(storage, self._committer, self._recent, state_dir, room)
        self._keyed = KeyedStarts(storage, self._committer, self._supervisor, start=self._start, started=self._started)
        self._removal = Removal(storage, self._committer, self._supervisor, self._recent)
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

    async def close(self) -> None:
        """Leave the processes to the shim. What was read and is not stored yet, the shim still has."""
        self.interrupt_followers()
        self._supervisor.stop()
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
        trouble = self._store_trouble()
        if trouble is not None:
            return trouble
        if not self._supervisor.connected:
            return "the shim is not connected"
        return "the shim does not answer: is it stopped?" if self._supervisor.link.is_silent else None

    def _store_trouble(self) -> str | None:
        if self._committer.failure is not None:
            return f"the store cannot commit: {self._committer.failure}"
        for process_id, reason in self._supervisor.refusals.reasons.items():
            return f"the store refuses what process {process_id} writes, and others go on: {reason}"
        return None

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

    async def start(self, request: StartRequest) -> StartOutcome:
        """Start a process. When this returns, it runs (or has run) and is in the store.

        With an `idempotency_key` that a process has, that one is returned, as it is now: see `KeyedStarts.start`.

        Raises:
            InvalidRequest: the key belongs to another command, or other arguments.
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
        try:
            live = await self._supervisor.start(spec, make_command(request, spec, identity, self._inherit_env))
        except SpawnRefused as exc:
            raise explain(exc, spec) from None
        crash_point("start-forked")
        try:
            handle = await self._committer.commit(AddProcess(spec, live.run))
        except OutlastError:
            # It may be stored, or will be when a commit under way returns: this comes behind it.
            self._committer.submit(WithdrawProcess(spec.id), lambda _handle: None)
            await self._supervisor.undo(live)
            raise
        crash_point("start-recorded")
        self._supervisor.total += 1
        self._supervisor.begin(live, handle, Position())
        await self._started(live)
        return Process(handle=handle, spec=spec, run=live.run)

    async def _started(self, live: LiveProcess) -> None:
        """Wait until it is known what became of a start that is recorded.

        Raises:
            SpawnFailed: its program could not be run; what was recorded of it is withdrawn, or will be.
        """
        await live.wait(lambda: live.started or live.failed is not None)
        if live.failed is not None:
            await live.wait(lambda: live.finished, _WITHDRAWN_S)
            raise explain(SpawnRefused(*live.failed), live.spec)

    async def get(self, ref: str) -> ProcessView:
        """Find a process by pid (the newest that had it) or id.

        Raises:
            NotFound: there is none.
        """
        process = None
        if ref.isascii() and ref.isdigit():
            process = await self._storage.process_by_pid(int(ref)) if len(ref) <= _PID_DIGITS else None
        elif is_ulid(ref.upper()):
            process = await self._storage.process_by_id(ref.upper())
        if process is None:
            raise NotFound(f"there is no process {ref!r}: name it by its pid or its id, as the list shows them")
        return self._view(process)

    async def list(self, query: ProcessQuery) -> list[ProcessView]:
        """List processes, in the order that the query names."""
        return [self._view(process) for process in await self._storage.processes(query)]

    async def kill(self, ref: str, wait_s: float = KILL_WAIT_S) -> ProcessView | None:
        """SIGKILL a process and everything that it started. It may have ended already. See `Removal.kill`.

        Returns:
            None: all of it is gone, and its end is stored. Else it is not, after `wait_s`: the process as it is now.
        """
        process = (await self.get(ref)).process
        return None if await self._removal.kill(process, wait_s) else await self.get(process.spec.id)

    async def purge(self, ref: str, wait_s: float = KILL_WAIT_S) -> ProcessView | None:
        """Kill a process and delete its record and output. See `Removal.purge`; returned is the same as by `kill`."""
        process = (await self.get(ref)).process
        return None if await self._removal.purge(process, wait_s) else await self.get(process.spec.id)

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
        """Read what is stored, then what comes, to the end. See `Cursor.follow`."""
        cursor = self._cursor(process, query)
        if self._closing:
            raise FollowInterrupted
        self._cursors.add(cursor)
        try:
            async with contextlib.aclosing(cursor.follow(heartbeat_s)) as chunks:
                async for chunk in chunks:
                    yield chunk
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

    async def sql(self, question: SqlQuestion) -> bytes:
        """Answer a question in SQL. See `Storage.sql`."""
        return await self._storage.sql(question)

    async def end_everything(self, grace_s: float) -> int:
        """SIGTERM every process, SIGKILL after `grace_s`, wait for their ends to be stored, and end the shim.

        Returns:
            How many were running.

        Raises:
            StorageUnavailable: ends or output can't be stored now; the shim still has them.
        """
        link = self._supervisor.link
        running = [live for live in self._supervisor if not live.ended]
        for live in running:
            with contextlib.suppress(NotRunning, PermissionError):
                await link.signal(live.slot, signal.SIGTERM)
        await _all_of(running, grace_s)
        rest = [live for live in self._supervisor if not live.finished]
        for live in rest:
            await link.kill(live.spec.id)
        finished = await _all_of(rest, _KILL_CONFIRM_S)
        trouble = self._store_trouble()
        if trouble is not None:
            raise StorageUnavailable(
                f"the processes were told to end, but {trouble}. "
                "The shim keeps what is not stored: make room, and do this again"
            )
        if not finished:  # something that could not be killed holds a pipe; all that it wrote so far is stored
            for live in rest:
                link.forget(live.slot)
        await self._committer.settled()
        await link.end_shim()
        return len(running)

    # ---- helpers

    def _view(self, process: Process) -> ProcessView:
        live = self._supervisor.get(process.spec.id)
        return ProcessView(process=process, stdin_writable=live is not None and live.stdin_open)

    @property
    def is_closing(self) -> bool:
        """Whether the daemon is going: streams that end now are not over."""
        return self._closing

    def has_only_others(self, process: Process) -> bool:
        """Tell whether it has ended, and all that was read of its output is stored: what comes, others write."""
        live = self._supervisor.get(process.spec.id)
        return live is None or (live.end_stored and not live.held.frames)

    def _running(self, view: ProcessView) -> LiveProcess:
        live = self._supervisor.get(view.process.spec.id)
        if live is None or live.ended:
            raise NotRunning(f"process {view.process.run.pid} has ended; GET it to see how")
        return live

    def _cursor(self, process: Process, query: OutputQuery) -> Cursor:
        live = self._supervisor.get(process.spec.id)
        return Cursor(self._storage, self._recent, process.handle, live, query)


async def _all_of(processes: list[LiveProcess], timeout_s: float) -> bool:
    """Wait until all are finished. False: not in time."""

    async def finished(live: LiveProcess) -> bool:
        return await live.wait(lambda: live.finished, timeout_s)

    return all(await asyncio.gather(*(finished(live) for live in processes)))

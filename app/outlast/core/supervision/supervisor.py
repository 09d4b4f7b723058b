"""The supervisor: all live processes, and the link to the shim that has them."""

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.core.condition import Condition
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision.checks import Checks
from outlast.core.supervision.live_process import LiveProcess, RunRecorder
from outlast.core.supervision.live_registry import LiveRegistry
from outlast.core.supervision.quarantine import Quarantine, concerns
from outlast.core.supervision.recovery import Recovery
from outlast.core.supervision.salvage import Salvage
from outlast.core.supervision.spec_record import run_of, spec_to_record
from outlast.failpoints import failpoint
from outlast.linux import descriptors
from outlast.model.errors import OutlastError, ProtocolError, ShimUnavailable
from outlast.model.output import Position, Stream
from outlast.model.process import ProcessSpec, Run
from outlast.model.shortage import shortage
from outlast.shimlink import LINK_BROKE, GreetingCut, HeldProcess, ShimLink, connect_or_start
from outlast.storage import Change, ChangeSpec, Storage
from outlast.wire.api_socket import ApiSocket
from outlast.wire.contract import Command

log = logging.getLogger(__name__)

_RECONNECT_INTERVAL_S = 0.2
_RETRY_S = 0.02
_GREETINGS = 5
_CATCH_UP_S = 1.0
_START_DESCRIPTORS = 9
"""Maximum number of descriptors that come with a start; at most six stay."""
_LAST_HANDOVER_S = 10.0
"""Maximum time that a stopping daemon waits for a handover, without which the processes would not continue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """How many bytes the shim may buffer: of one process, of all in memory, and of all in the spool on disk."""

    process_bytes: int
    memory_bytes: int
    spool_bytes: int

    @property
    def least_bytes(self) -> int:
        """How much output may be on its way to the store, if nothing is spooled, before some process is paused."""
        return min(self.process_bytes, self.memory_bytes)

    def as_settings(self) -> dict[str, int]:
        """Return the limits as the greeting carries them."""
        return {"limit_bytes": self.process_bytes, "memory_bytes": self.memory_bytes, "spool_bytes": self.spool_bytes}


class Supervisor:
    """The live processes of one daemon. It passes the shim's events to the recorder of the run that they are about.

    Attributes:
        checks: the commands that check the health of runs.
        total: number of processes in the store.
        shim_restarts: how often another shim has taken the place of one that had ended.
        quarantine: the processes whose changes the store rejects.
    """

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        chunk_cache: ChunkCache,
        state_dir: Path,
        limits: BufferLimits,
        api_sockets: Sequence[ApiSocket] = (),
        *,
        store_is_stand_in: bool = False,
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._chunk_cache = chunk_cache
        self._state_dir = state_dir
        self._limits = limits
        self._api_sockets = api_sockets
        self._link: ShimLink | None = None
        self._registry = LiveRegistry()
        self._salvage = Salvage()
        self._connecting = asyncio.Lock()
        self._connected_at = 0.0
        self._reconnecting: asyncio.Task[None] | None = None
        self._starting = 0
        self._is_open = False
        self._is_closed = False
        self._is_catching_up = False
        self._output_read = Condition()
        self._catch_up_by = 0.0
        self._recovery = Recovery(
            storage,
            committer,
            self._registry,
            start_recording=self.start_recording,
            attach=self._attach,
            on_added=self.count_added,
            store_is_stand_in=store_is_stand_in,
        )
        self.checks = Checks(self)
        self.total = 0
        self.shim_restarts = 0
        self.quarantine = Quarantine(self._resume_quarantined)
        committer.on_rejected = self._on_rejected

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(self._registry)

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._registry.get(process_id)

    @property
    def registered(self) -> asyncio.Event:
        """An event that each new run sets."""
        return self._registry.registered

    @property
    def connected(self) -> bool:
        """Whether the shim can be asked now, about every process."""
        handing_over = self._reconnecting is not None and not self._reconnecting.done()
        return self._link is not None and self._link.connected and not handing_over

    @property
    def link(self) -> ShimLink:
        """The link to the shim.

        Raises:
            ShimUnavailable: there is no link now; the daemon is reconnecting.
        """
        if self._link is None or not self.connected:
            raise ShimUnavailable("the shim is not connected now; the daemon is reconnecting or replacing it")
        return self._link

    @property
    def shim_version(self) -> str | None:
        """The version of the shim's program; None while it is not connected."""
        return self._link.shim_version if self._link is not None and self.connected else None

    def store_problem(self) -> str | None:
        """Return a sentence that says what the store cannot do now, or None."""
        if self._committer.failure is not None:
            return f"the store cannot commit: {self._committer.failure}"
        for process_id, reason in self.quarantine.reasons.items():
            return f"the store rejects the output of process {process_id}; other processes are not affected: {reason}"
        return None

    def shim_problem(self) -> str | None:
        """Return a sentence that says why the shim cannot be asked now, or what it cannot do, or None."""
        if not self.connected:
            return "the shim is not connected"
        return "the shim does not answer: is it stopped?" if self.link.is_silent else self.link.problem

    @property
    def unstored_bytes(self) -> int:
        """Bytes of output that the shim has told of, and that are not stored."""
        return sum(live.unstored_bytes for live in self)

    async def open(self) -> None:
        """Connect to the shim (or start one) and resume every process from where the store stands.

        Raises:
            ShimUnavailable: no shim runs, and none can be started.
            ProtocolError: the shim that runs has another protocol version; nothing was changed.
            StorageUnavailable: the store cannot be read now.
        """
        self.total = await self._storage.total()
        for _ in range(_GREETINGS - 1):
            try:
                await self._connect()
            except LINK_BROKE as exc:
                log.warning("%s while this daemon started; it is replaced", exc)
            else:
                break
        else:
            await self._connect()
        self._is_catching_up = True
        self._catch_up_by = time.monotonic() + _CATCH_UP_S

    async def catch_up(self) -> bool:
        """Wait until all has been read again that earlier daemons had read, but not for long after the opening.

        Returns:
            Whether this had to be waited for: followers of earlier daemons may have seen what is queued now.
        """
        if not self._is_catching_up:
            return False
        left_s = max(0.0, self._catch_up_by - time.monotonic())
        recorders = [live.recorder for live in self if live.recorder is not None]
        await self._output_read.wait(lambda: all(recorder.has_caught_up for recorder in recorders), left_s)
        self._is_catching_up = False
        return bool(recorders)

    def stop(self) -> None:
        """Record nothing more. The shim keeps what is not stored."""
        self._registry.unsubscribe_all()
        self.quarantine.stop()
        for live in self:
            live.stop_recording()

    async def close(self) -> None:
        """Leave the processes to the shim. If it has died, first hand them over to another one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_HANDOVER_S):
                await self._wait_reconnected()
        self._is_closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._link is not None:
            self._link.close()
        for live in self:
            live.close()

    # ---- runs

    async def spawn(self, spec: ProcessSpec, command: Command, number: int, begins_at: Position) -> LiveProcess:
        """Fork run `number` of a process and register it. It executes its program once `start_recording` is called.

        `begins_at`: how far the output of earlier runs is stored; this run's output continues there.

        Raises:
            SpawnRefused: the system could not start the process.
            OutOfResources: this daemon has too few descriptors left; nothing was started.
            ShimUnavailable: there is no shim now; nothing was started.
        """
        link = self.link
        self._starting += 1
        try:
            if not descriptors.has_room(self._starting * _START_DESCRIPTORS):
                raise shortage(errno.EMFILE)
            spawned = await link.spawn(spec_to_record(spec, number), command, begins_at)
        finally:
            self._starting -= 1
        run = Run(number=number, pid=spawned.held.pid, started_at_ms=spawned.held.started_at_ms)
        live = LiveProcess(spec, run, spawned.slot, spawned.held, time.monotonic())
        live.usage.load_stored(None)  # the store has nothing of a new run
        self._registry.register(live)
        if link is not self._link or not link.connected:  # the shim has died since
            live.slot = 0
            self._reconnect_soon()
        return live

    async def undo_spawn(self, live: LiveProcess) -> None:
        """Kill a run that cannot be recorded, and let the shim forget it. Wait for a shim if there is none now."""
        while True:
            await self._wait_reconnected()
            try:
                link, slot = self.link, live.slot
                await link.kill(live.key)
                break
            except ShimUnavailable:
                if self._is_closed:
                    raise
                await asyncio.sleep(_RETRY_S)  # the loss of the link is noticed any moment
        self.release(live)
        link.forget(slot)

    def start_recording(self, live: LiveProcess, handle: int, position: Position) -> RunRecorder:
        """Record a run's output after `position`, and let it execute its program, once a shim has it.

        To be called when the run itself is recorded, and again to resume it.
        """
        recorder = RunRecorder(
            live,
            handle,
            position,
            committer=self._committer,
            chunk_cache=self._chunk_cache,
            on_finished=self.release,
        )
        live.on_recorded(handle, position, recorder)
        if live.held.failed is not None:
            self._withdraw(live, live.held.failed["stage"], live.held.failed["errno"])
        elif live.slot:
            self._attach(live)
        return recorder

    def _attach(self, live: LiveProcess) -> None:
        if self._link is not None and live.recorder is not None and live.spec.id not in self.quarantine.reasons:
            live.recorder.attach(self._link)
            self._registry.subscribe_when_attached(live.recorder)

    def release(self, live: LiveProcess) -> None:
        """Unregister a run that is finished, or was never recorded, and close what is held of it."""
        self._registry.unregister(live)
        self.quarantine.discharge(live.spec.id)
        live.close()

    def _withdraw(self, live: LiveProcess, stage: int, errno: int) -> None:
        """Remove the record of a run whose program could not be executed. Only then may the shim forget the run."""

        def on_stored(_handle: int) -> None:
            if self._link is not None and live.slot:
                self._link.forget(live.slot)
            self.total -= live.run.number == 1
            self.release(live)
            live.mark_finished()

        if live.failed is None:
            live.on_failed(stage, errno)
            self._committer.submit(live.withdrawal(live.handle), on_stored)

    def count_added(self) -> None:
        """Count a process that has been added to the store."""
        self.total += 1

    # ---- events of the shim

    def on_attached(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        """See `ShimEvents`."""
        self._registry.on_attached(slot, stdout_end, stderr_end)

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        """See `ShimEvents`."""
        recorder = self._registry.recorder(slot)
        if recorder is not None:
            live = recorder.live
            if not live.is_spec_stored:
                live.is_spec_stored = True
                self._committer.submit(ChangeSpec(live.handle, live.spec))
            live.on_started(deadline_ms)

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        """See `ShimEvents`."""
        recorder = self._registry.recorder(slot)
        if recorder is not None:
            self._withdraw(recorder.live, stage, errno)

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """See `ShimEvents`."""
        failpoint("frame-read")
        recorder = self._registry.recorder(slot)
        if recorder is not None:
            try:
                recorder.on_output(stream, ts_ms, offset, size)
                if self._is_catching_up:
                    self._output_read.wake()
            except ProtocolError as exc:
                log.exception("a frame of process %s does not follow the one before", recorder.live.spec.id)
                if self._link is not None:
                    self._link.abort(exc)

    def on_segment(self, slot: int, stream: Stream, start: int, fd: int) -> None:
        """See `ShimEvents`."""
        live = next((live for live in self if live.slot == slot), None)  # also of a run whose events nobody gets now
        if live is not None:
            live.held.append_segment(stream, start, fd)
        else:
            os.close(fd)

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        """See `ShimEvents`."""
        failpoint("end-seen")
        recorder = self._registry.recorder(slot)
        if recorder is not None:
            recorder.on_exited(how)

    def on_stdin_closed(self, slot: int) -> None:
        """See `ShimEvents`."""
        recorder = self._registry.recorder(slot)
        if recorder is not None:
            recorder.live.on_stdin_closed()

    def on_described(self, record: Mapping[str, Any], held: HeldProcess) -> bool:
        """See `ShimEvents`. Two sets of descriptors of every process may be more than this daemon can have."""
        process_id, number = run_of(record)
        live = self._registry.get(process_id) if self._is_open else None
        if live is None or live.run.number != number:
            return False
        live.hold(0, held)
        return True

    def on_link_lost(self) -> None:
        """See `ShimEvents`. Find the shim again, or start another and hand all processes over to it."""
        self._registry.clear_slots()
        self._reconnect_soon()

    # ---- the link

    async def wait_connected(self, deadline: float) -> None:
        """Wait until the shim can be asked about every process, or until `deadline`, by the monotonic clock."""
        while not (self.connected or self._is_closed) and (left_s := deadline - time.monotonic()) > 0:
            if self._reconnecting is not None and not self._reconnecting.done():
                await asyncio.wait([self._reconnecting], timeout=left_s)
            else:
                await asyncio.sleep(_RETRY_S)  # the loss of the link is noticed any moment

    async def _wait_reconnected(self) -> None:
        """Wait while the daemon reconnects, or hands processes over."""
        while self._reconnecting is not None and not self._reconnecting.done():
            await asyncio.wait([self._reconnecting])

    async def _connect(self) -> ShimLink:
        """Connect, and recover or reconnect every process. If the link is lost by the end, all has to be repeated."""
        async with self._connecting:
            if self._link is not None:
                self._link.close()
            self._registry.clear_slots()
            self._connected_at = time.monotonic()
            before = self._link
            self._link = link = await self._greet()
            self.shim_restarts += before is not None and before.shim_pid != link.shim_pid
            _log_connected(before, link)
            found, link.inventory = self.checks.take(link, link.inventory), []
            if self._is_open:
                await self._recovery.reconnect(link, found)
            else:
                try:
                    await self._recovery.recover(link, found + await self._salvage.hand_over(link, found))
                except LINK_BROKE:
                    self._salvage.keep(found)
                    raise
                self._salvage.clear()
                self._is_open = True
            await self.checks.end_left(link)
            return link

    async def _greet(self) -> ShimLink:
        try:
            return await connect_or_start(self._state_dir, self.checks, self._limits.as_settings(), self._api_sockets)
        except GreetingCut as exc:
            if self._is_open:  # the daemon has these processes already
                for process in exc.found:
                    if not process.taken:
                        process.held.close()
            else:
                self._salvage.keep(self.checks.take(None, exc.found))
            raise

    def _reconnect_soon(self) -> None:
        if not self._is_closed and (self._reconnecting is None or self._reconnecting.done()):
            self._reconnecting = asyncio.create_task(self._reconnect(), name="reconnect")

    async def _reconnect(self) -> None:
        while True:
            # A connection that breaks at once, again and again, must not become a busy loop.
            await asyncio.sleep(max(0.0, self._connected_at + _RECONNECT_INTERVAL_S - time.monotonic()))
            try:
                link = await self._connect()
            except OutlastError as exc:
                log.error("cannot reach the shim: %s", exc)  # noqa: TRY400 - the sentence says it all
            except Exception:  # nothing works without a shim, so the daemon retries after any error
                log.exception("cannot reach the shim")
            else:
                if link.connected:
                    return

    # ---- quarantine

    def _on_rejected(self, change: Change, reason: str) -> None:
        live = next((live for live in self if concerns(change, live)), None)
        if live is not None:
            live.stop_recording()
            if live.recorder is not None:
                live.recorder.discard_unstored()
            self._registry.unsubscribe(live)
            self.quarantine.isolate(live.spec.id, reason)
            log.error(
                "the store rejects the output of process %s, as said above; it is tried again, and others go on. "
                "Report this as a bug. To give the process up: DELETE /api/v1/processes/%s?purge=true",
                live.spec.id,
                live.spec.id,
            )

    async def _resume_quarantined(self, process_id: str) -> None:
        live = self._registry.get(process_id)
        self.quarantine.reasons.pop(process_id, None)
        if live is not None:
            await self._recovery.resume_quarantined(live)


def _log_connected(before: ShimLink | None, link: ShimLink) -> None:
    """Log what has become of an earlier shim. A shim that is upgraded keeps its pid."""
    if before is not None and before.shim_pid == link.shim_pid:
        log.info("the shim (pid %d, version %s) is connected again", link.shim_pid, link.shim_version)
    elif before is not None:
        log.warning(
            "the shim (pid %d) has ended; pid %d has taken its place, and has its processes",
            before.shim_pid,
            link.shim_pid,
        )

"""The live processes: those that the shim looks after, and the link to it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.output.committer import Committer
from outlast.core.supervision.buffer_limits import BufferLimits
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.live_registry import LiveRegistry
from outlast.core.supervision.quarantine import Quarantine, concerns
from outlast.core.supervision.recovery import Recovery
from outlast.core.supervision.spec_record import spec_to_record
from outlast.core.supervision.withdrawal import withdrawal
from outlast.failpoints import failpoint
from outlast.model.errors import OutlastError, ProtocolError, ShimUnavailable
from outlast.model.output import Position, Stream
from outlast.model.process import ProcessSpec, Run
from outlast.shimlink import GreetingCut, ShimLink, ShimLost, ShimProcess, connect_or_start
from outlast.storage import Change, Storage
from outlast.wire.contract import Command

log = logging.getLogger(__name__)

_RELINK_S = 0.2
_LOOK_AGAIN_S = 0.02
_GREETINGS = 5
# The longest that a daemon which is to end waits for a handover: without it, what ran would not run on.
_LAST_HANDOVER_S = 10.0
_BEGINNING = Position()


class Supervisor:
    """Hears the shim's events and hands them to the process that they are about.

    Attributes:
        total: count of the processes in the store.
        refusals: whose changes the store refuses. Such a process is not attended to for a while.
    """

    def __init__(
        self, storage: Storage, committer: Committer, recent: ChunkCache, state_dir: Path, room: BufferLimits
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._recent = recent
        self._state_dir = state_dir
        self._room = room
        self._link: ShimLink | None = None
        self._table = LiveRegistry()
        self._salvaged: dict[str, ShimProcess] = {}
        self._connecting = asyncio.Lock()
        self._connected_at = 0.0
        self._reconnecting: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_closed = False
        self._recovery = Recovery(
            storage,
            committer,
            self._table,
            begin=self.begin,
            attach=self._attach,
            on_recorded=self._count,
        )
        self.total = 0
        self.refusals = Quarantine(self._begin_again)
        committer.on_refused = self._on_refused

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(self._table)

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._table.get(process_id)

    @property
    def connected(self) -> bool:
        """Whether the shim can be asked now, about every process."""
        handing_over = self._reconnecting is not None and not self._reconnecting.done()
        return self._link is not None and self._link.connected and not handing_over

    @property
    def link(self) -> ShimLink:
        """The link to the shim.

        Raises:
            ShimUnavailable: it is down, and being looked for.
        """
        if self._link is None or not self.connected:
            raise ShimUnavailable("the shim is not connected now; it is being looked for, or replaced")
        return self._link

    async def open(self) -> None:
        """Connect to the shim (or start one) and take up every process where the store stands.

        Raises:
            ShimUnavailable: there is no shim and none can be started.
            ProtocolError: the shim that runs is of another version; nothing was touched.
            StorageUnavailable: the store can't be read now.
        """
        self.total = await self._storage.total()
        for _ in range(_GREETINGS - 1):
            try:
                await self._connect()
            except ShimLost as exc:
                log.warning("%s while this daemon started; it is replaced", exc)
            else:
                return
        await self._connect()

    def stop(self) -> None:
        """Take nothing more from the shim: what is not stored yet, it still has."""
        self._table.deafen_all()
        self.refusals.stop()
        for live in self:
            live.stop()

    async def close(self) -> None:
        """Leave the processes to the shim. If it has died, they are first handed over to another."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_HANDOVER_S):
                await self._settled()
        self._is_closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._link is not None:
            self._link.close()
        for live in self:
            live.let_go()

    # ---- processes

    async def start(
        self, spec: ProcessSpec, command: Command, *, number: int = 1, begins_at: Position = _BEGINNING
    ) -> LiveProcess:
        """Fork a process and know it from now on. It runs its program when it is recorded: see `begin`.

        With `number`, it is that run of the process, whose output goes on at `begins_at`.

        Raises:
            SpawnRefused: the system could not start it.
            ShimUnavailable: there is no shim now; nothing runs.
        """
        link = self.link
        spawned = await link.spawn(spec_to_record(spec, number), command, begins_at)
        run = Run(number=number, pid=spawned.held.pid, started_at_ms=spawned.held.started_at_ms)
        live = LiveProcess(spec, run, spawned.slot, spawned.held)
        live.usage.load(None)  # of a new run the store has nothing
        self._table.add(live)
        if link is not self._link or not link.connected:  # it has lost its shim already
            live.slot = 0
            self._reconnect_soon()
        return live

    async def undo(self, live: LiveProcess) -> None:
        """Leave nothing of a start that can't be recorded. Waits for a shim if there is none now."""
        while True:
            await self._settled()
            try:
                link, slot = self.link, live.slot
                await link.kill(live.key)
                break
            except ShimUnavailable:
                if self._is_closed:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)  # its loss is about to be noticed
        self.release(live)
        link.forget(slot)

    def begin(self, live: LiveProcess, handle: int, position: Position) -> None:
        """It is recorded: let it run, and capture its output, as soon as there is a shim that looks after it."""
        live.begin(
            handle=handle,
            position=position,
            committer=self._committer,
            recent=self._recent,
            on_finished=self.release,
        )
        if live.held.failed is not None:
            self._take_back(live, live.held.failed["stage"], live.held.failed["errno"])
        elif live.slot:
            self._attach(live)

    def _attach(self, live: LiveProcess) -> None:
        if self._link is not None and live.spec.id not in self.refusals.reasons:
            self._table.listen(live)
            live.attach(self._link)

    def release(self, live: LiveProcess) -> None:
        """A process is finished, or was never recorded: there is nothing live about it."""
        self._table.remove(live)
        self.refusals.forget(live.spec.id)
        live.let_go()

    def _take_back(self, live: LiveProcess, stage: int, errno: int) -> None:
        """Its program could not be run: what was recorded of it is withdrawn, and only then does the shim forget it."""

        def done(_handle: int) -> None:
            if self._link is not None and live.slot:
                self._link.forget(live.slot)
            self.total -= live.run.number == 1
            self.release(live)
            live.finished = True
            live.wake()

        if live.failed is None:
            live.on_failed(stage, errno)
            self._committer.submit(withdrawal(live), done)

    def _count(self) -> None:
        self.total += 1

    # ---- events of the shim

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        """See `ShimEvents`."""
        live = self._table.in_slot(slot)
        if live is not None:
            live.on_started(deadline_ms)

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        """See `ShimEvents`."""
        live = self._table.in_slot(slot)
        if live is not None:
            self._take_back(live, stage, errno)

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """See `ShimEvents`."""
        failpoint("frame-read")
        live = self._table.in_slot(slot)
        if live is not None:
            try:
                live.on_output(stream, ts_ms, offset, size)
            except ProtocolError as exc:
                log.exception("output of %s does not join", live.spec.id)
                if self._link is not None:
                    self._link.abort(exc)

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        """See `ShimEvents`."""
        failpoint("end-seen")
        live = self._table.in_slot(slot)
        if live is not None:
            live.on_exited(how)

    def on_stdin_closed(self, slot: int) -> None:
        """See `ShimEvents`."""
        live = self._table.in_slot(slot)
        if live is not None:
            live.on_stdin_closed()

    def on_link_lost(self) -> None:
        """See `ShimEvents`: find the shim again, or start another and hand everything over to it."""
        self._table.forget_slots()
        self._reconnect_soon()

    # ---- the link

    async def _settled(self) -> None:
        """Wait until the shim is not being looked for or replaced."""
        while self._reconnecting is not None and not self._reconnecting.done():
            await asyncio.wait([self._reconnecting])

    async def _connect(self) -> ShimLink:
        """Connect and bring everything together. If the link is lost again by the end of it, all has to be redone."""
        async with self._connecting:
            if self._link is not None:
                self._link.close()
            self._table.forget_slots()
            self._connected_at = time.monotonic()
            self._link = link = await self._greet()
            found, link.inventory = link.inventory, []
            if self._is_open:
                await self._recovery.meet_again(link, found)
            else:
                try:
                    await self._recovery.take_up(link, found + await self._hand_over_salvaged(link, found))
                except ShimLost:
                    self._salvage(found)
                    raise
                self._salvaged.clear()
                self._is_open = True
            return link

    async def _greet(self) -> ShimLink:
        try:
            return await connect_or_start(self._state_dir, self, self._room.as_settings())
        except GreetingCut as exc:
            self._salvage(exc.found)
            raise

    def _salvage(self, found: list[ShimProcess]) -> None:
        """Keep what a shim had told of that died before this daemon knew what to do with it."""
        for process in found:
            if self._is_open or self._salvaged.setdefault(process.record["id"], process) is not process:
                process.held.close()  # it is known already

    async def _hand_over_salvaged(self, link: ShimLink, found: list[ShimProcess]) -> list[ShimProcess]:
        """Hand over what was salvaged, but for what this shim tells of itself."""
        for process in found:
            if (known := self._salvaged.pop(process.record["id"], None)) is not None:
                known.held.close()
        handed_over = []
        for process in self._salvaged.values():
            slot = await link.adopt(process.record, process.held, None)
            handed_over.append(ShimProcess(slot, process.record, process.held))
        return handed_over

    def _reconnect_soon(self) -> None:
        if not self._is_closed and (self._reconnecting is None or self._reconnecting.done()):
            self._reconnecting = asyncio.create_task(self._reconnect(), name="reconnect")

    async def _reconnect(self) -> None:
        while True:
            # A connection that breaks at once, again and again, must not become a busy loop.
            await asyncio.sleep(max(0.0, self._connected_at + _RELINK_S - time.monotonic()))
            try:
                link = await self._connect()
            except OutlastError as exc:
                log.error("the shim can't be reached: %s", exc)  # noqa: TRY400 - the sentence says it all
            except Exception:  # nothing works without a shim: whatever went wrong, it is tried again
                log.exception("the shim can't be reached")
            else:
                if link.connected:
                    return

    # ---- what the store refuses

    def _on_refused(self, change: Change, reason: str) -> None:
        live = next((live for live in self if concerns(change, live)), None)
        if live is not None:
            live.stop()
            self._table.deafen(live)
            self.refusals.add(live.spec.id, reason)

    async def _begin_again(self, process_id: str) -> None:
        live = self._table.get(process_id)
        self.refusals.reasons.pop(process_id, None)
        if live is not None:
            await self._recovery.begin_again(live)

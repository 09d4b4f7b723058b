"""The live processes: those that the shim looks after, the link to it, and how both are found again."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from app.core.committer import Committer
from app.core.live import LiveProcess
from app.core.lost import record_loss
from app.core.recent import RecentChunks
from app.core.records import spec_from_record, spec_to_record
from app.core.room import ShimRoom
from app.crash import crash_point
from app.model.errors import OutlastError, ProtocolError, ShimUnavailable
from app.model.output import GapReason, Position, Stream
from app.model.process import ProcessSpec, Run
from app.shim.spawn import Command
from app.shimlink import ShimLink, ShimProcess, connect_or_start
from app.storage import AddProcess, Storage

log = logging.getLogger(__name__)

_RECOVERY_COMMIT_S = 5.0
_RELINK_S = 1.0
_LOOK_AGAIN_S = 0.02
# The longest that a daemon which is to end waits for a handover: without it, what ran would not run on.
_LAST_HANDOVER_S = 10.0


class Supervisor:
    """Hears the shim's events and hands them to the process that they are about."""

    def __init__(
        self, storage: Storage, committer: Committer, recent: RecentChunks, state_dir: Path, room: ShimRoom
    ) -> None:
        self._storage = storage
        self._committer = committer
        self._recent = recent
        self._state_dir = state_dir
        self._room = room
        self._link: ShimLink | None = None
        self._live: dict[str, LiveProcess] = {}
        self._by_slot: dict[int, LiveProcess] = {}
        self._starting: set[str] = set()
        self._unswept: list[str] = []
        self._connecting = asyncio.Lock()
        self._connected_at = 0.0
        self._reconnecting: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_closed = False
        self.total = 0

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(tuple(self._live.values()))

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._live.get(process_id)

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
        await self._connect()

    def stop(self) -> None:
        """Take nothing more from the shim: what is not stored yet, it still has."""
        self._by_slot.clear()
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

    async def _settled(self) -> None:
        """Wait until the shim is not being looked for or replaced."""
        while self._reconnecting is not None and not self._reconnecting.done():
            await asyncio.wait([self._reconnecting])

    async def start(self, spec: ProcessSpec, command: Command) -> LiveProcess:
        """Start a process and know it from now on, also before it is recorded.

        Raises:
            SpawnRefused: the system could not start it.
            ShimUnavailable: there is no shim now; nothing runs.
        """
        link = self.link
        self._starting.add(spec.id)
        try:
            spawned = await link.spawn(spec_to_record(spec), command)
        finally:
            self._starting.discard(spec.id)
        run = Run(pid=spawned.held.pid, started_at_ms=spawned.held.started_at_ms)
        live = self._live[spec.id] = LiveProcess(spec, run, spawned.slot, spawned.held)
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
                await link.kill(live.spec.id)
                break
            except ShimUnavailable:
                if self._is_closed:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)  # its loss is about to be noticed
        self.release(live)
        link.forget(slot)

    def begin(self, live: LiveProcess, handle: int, position: Position) -> None:
        """It is recorded: capture its output, now or when a shim has been found that looks after it."""
        live.begin(
            handle=handle,
            position=position,
            committer=self._committer,
            recent=self._recent,
            on_finished=self.release,
        )
        if live.slot:
            self._attach(live)

    def _attach(self, live: LiveProcess) -> None:
        if self._link is not None:
            self._by_slot[live.slot] = live
            live.attach(self._link)

    def release(self, live: LiveProcess) -> None:
        """A process is finished, or was never recorded: there is nothing live about it."""
        self._live.pop(live.spec.id, None)
        if self._by_slot.get(live.slot) is live:
            del self._by_slot[live.slot]
        live.let_go()

    # ---- events of the shim

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        """See `ShimEvents`."""
        crash_point("frame-read")
        live = self._by_slot.get(slot)
        if live is not None:
            try:
                live.on_output(stream, ts_ms, offset, size)
            except ProtocolError as exc:
                log.exception("output of %s does not join", live.spec.id)
                if self._link is not None:
                    self._link.abort(exc)

    def on_exited(self, slot: int, code: int | None, signal_number: int | None, ts_ms: int) -> None:
        """See `ShimEvents`."""
        crash_point("end-seen")
        live = self._by_slot.get(slot)
        if live is not None:
            live.on_exited(code, signal_number, ts_ms)

    def on_stdin_closed(self, slot: int) -> None:
        """See `ShimEvents`."""
        live = self._by_slot.get(slot)
        if live is not None:
            live.on_stdin_closed()

    def on_found(self, process: ShimProcess) -> None:
        """See `ShimEvents`: nobody has recorded it."""
        if process.record["id"] in self._starting:
            process.held.close()  # `start` is about to know of it
        else:
            self._record(process)

    def on_link_lost(self) -> None:
        """See `ShimEvents`: find the shim again, or start another and hand everything over to it."""
        self._forget_slots()
        self._reconnect_soon()

    def _forget_slots(self) -> None:
        self._by_slot.clear()
        for live in self:
            live.slot = 0

    # ---- recovery: at start, and when the link was lost

    async def _connect(self) -> ShimLink:
        """Connect and bring everything together. If the link is lost again by the end of it, all has to be redone."""
        async with self._connecting:
            if self._link is not None:
                self._link.close()
            self._forget_slots()
            self._connected_at = time.monotonic()
            self._link = link = await connect_or_start(self._state_dir, self, self._room.as_settings())
            found, link.inventory = link.inventory, []
            if self._is_open:
                await self._meet_again(link, found)
            else:
                await self._take_up(link, found)
                self._is_open = True
            return link

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

    async def _meet_again(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Go on with every process: with the shim that has it, else with a new one to which it is handed over."""
        crash_point("handover-begun")
        strangers = []
        for process in found:
            live = self._live.get(process.record["id"])
            if live is not None:
                live.hold(process.slot, process.held)
            else:
                process.held.close()
                if process.record["id"] not in self._starting:
                    strangers.append(process)
        for live in self:
            if live.slot and live.handle:
                self._attach(live)
        for process in strangers:
            await self._turn_away(link, process)
        while orphans := [live for live in self if not live.slot]:  # more may come while these are handed over
            for live in orphans:
                await self._hand_over(link, live)
        if self._unswept:
            await link.sweep(self._unswept)
            self._unswept = []

    async def _turn_away(self, link: ShimLink, process: ShimProcess) -> None:
        """Nobody waits for it any more, or its start was answered with an error."""
        if await self._storage.process_by_id(process.record["id"]) is None:
            await link.kill(process.record["id"])
        link.forget(process.slot)

    async def _hand_over(self, link: ShimLink, live: LiveProcess) -> None:
        if self._live.get(live.spec.id) is not live:
            return  # the last of it has been stored meanwhile
        slot = await link.adopt(spec_to_record(live.spec), live.held, live.ending_for_shim())
        crash_point("handover-step")
        if self._live.get(live.spec.id) is not live:
            link.forget(slot)
            return
        live.slot = slot
        if live.handle:
            self._attach(live)

    async def _take_up(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Bring store and shim together. The store says how far each output is, the shim has what comes after."""
        crash_point("recovery-begun")
        unfinished = {item.process.spec.id: item for item in await self._storage.unfinished()}
        for process in found:
            known = unfinished.pop(process.record["id"], None)
            if known is not None:
                live = LiveProcess(known.process.spec, known.process.run, process.slot, process.held)
                self._live[live.spec.id] = live
                self._go_on(live, process, known.process.handle, known.position)
            elif await self._storage.process_by_id(process.record["id"]) is not None:
                process.held.close()
                link.forget(process.slot)  # the kill came between the last commit and its acknowledgement
            else:
                self._record(process)
            crash_point("recovery-step")
        if unfinished:  # what may be left of them has nobody who reads it
            self._unswept = list(unfinished)
            with contextlib.suppress(ShimUnavailable):  # then the next shim does it
                await link.sweep(self._unswept)
                self._unswept = []
        losses = [record_loss(item, self._committer) for item in unfinished.values()]
        if losses:
            await asyncio.wait(losses, timeout=_RECOVERY_COMMIT_S)
        crash_point("recovery-done")

    def _go_on(self, live: LiveProcess, process: ShimProcess, handle: int, position: Position) -> None:
        """Capture from where the store stands; behind a hole if it is not the store that acknowledged what is gone."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        missing = {stream: process.begins_at(stream) - ends[stream] for stream in live.captured}
        self.begin(live, handle, position)
        for stream, count in missing.items():
            if count > 0:
                log.error(
                    "the store does not have %d bytes that process %s printed and that were stored before: was it "
                    "replaced by an older copy? Its output goes on behind a gap",
                    count,
                    live.spec.id,
                )
                live.skip(stream, count, GapReason.STORE_REPLACED)

    def _record(self, process: ShimProcess) -> None:
        """Record a process whose daemon died between its start and the record of it."""
        spec = spec_from_record(process.record)
        run = Run(pid=process.held.pid, started_at_ms=process.held.started_at_ms)
        live = LiveProcess(spec, run, process.slot, process.held)
        self._live[spec.id] = live

        def done(handle: int) -> None:
            self.total += 1
            self._go_on(live, process, handle, Position())

        self._committer.submit(AddProcess(spec, run), done)

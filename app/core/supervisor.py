"""The live processes: those that the shim looks after, the link to it, and how both are found again."""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.committer import Committer
from app.core.live import LiveProcess
from app.core.losses import lose
from app.core.recent import RecentChunks
from app.core.records import spec_from_record, spec_to_record
from app.core.refusals import Refusals
from app.crash import crash_point
from app.model.errors import OutlastError, ProtocolError, ShimUnavailable
from app.model.output import GapReason, Position, Stream
from app.model.process import ProcessSpec, Run
from app.shim.spawn import Command
from app.shimlink import ShimLink, ShimProcess, connect_or_start
from app.storage import AddProcess, Change, Storage, WithdrawProcess

log = logging.getLogger(__name__)

_RECOVERY_COMMIT_S = 5.0
_RELINK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimRoom:
    """What the shim may keep while nobody takes it, in bytes: of one process, and of all in memory and on disk."""

    process_bytes: int
    memory_bytes: int
    spool_bytes: int


class Supervisor:
    """Hears the shim's events and hands them to the process that they are about.

    Attributes:
        total: count of the processes in the store.
        refusals: whose changes the store refuses. Such a process is not attended to for a while.
    """

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
        self._connected_at = 0.0
        self._reconnecting: asyncio.Task[None] | None = None
        self._is_open = False
        self.total = 0
        self.refusals = Refusals(self._begin_again)
        committer.on_refused = self._on_refused

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
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self.refusals.stop()
        for live in self:
            live.stop()

    def close(self) -> None:
        """Leave the processes to the shim."""
        if self._link is not None:
            self._link.close()
        for live in self:
            live.let_go()

    async def start(self, spec: ProcessSpec, command: Command) -> LiveProcess:
        """Start a process and know it from now on, also before it is recorded.

        Raises:
            SpawnRefused: the system could not start it.
            ShimUnavailable: there is no shim now; nothing runs.
        """
        link = self.link
        spawned = await link.spawn(spec_to_record(spec), command)
        run = Run(pid=spawned.held.pid, started_at_ms=spawned.held.started_at_ms)
        live = self._live[spec.id] = LiveProcess(spec, run, spawned.slot, spawned.held)
        if link is not self._link or not link.connected:  # it has lost its shim already
            live.slot = 0
            self._reconnect_soon()
        return live

    async def undo(self, live: LiveProcess) -> None:
        """Leave nothing of a start that can't be recorded. Waits for a shim if there is none now."""
        while self._reconnecting is not None and not self._reconnecting.done():
            await asyncio.wait([self._reconnecting])
        link, slot = self.link, live.slot
        self.release(live)
        await link.kill(live.spec.id)
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
        if self._link is not None and live.spec.id not in self.refusals.reasons:
            self._by_slot[live.slot] = live
            live.attach(self._link)

    def release(self, live: LiveProcess) -> None:
        """A process is finished, or was never recorded: there is nothing live about it."""
        self._live.pop(live.spec.id, None)
        self.refusals.forget(live.spec.id)
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
        self._record(process)

    def on_link_lost(self) -> None:
        """See `ShimEvents`: find the shim again, or start another and hand everything over to it."""
        self._by_slot.clear()
        for live in self:
            live.slot = 0
        self._reconnect_soon()

    # ---- recovery: at start, and when the link was lost

    async def _connect(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = link = await connect_or_start(
            self._state_dir,
            self,
            {
                "room_bytes": self._room.process_bytes,
                "memory_bytes": self._room.memory_bytes,
                "spool_bytes": self._room.spool_bytes,
            },
        )
        self._connected_at = time.monotonic()
        found, link.inventory = link.inventory, []
        if self._is_open:
            await self._meet_again(link, found)
        else:
            await self._take_up(link, found)
            self._is_open = True

    def _reconnect_soon(self) -> None:
        if self._reconnecting is None or self._reconnecting.done():
            self._reconnecting = asyncio.create_task(self._reconnect(), name="reconnect")

    async def _reconnect(self) -> None:
        # A connection that breaks at once, again and again, must not become a busy loop.
        await asyncio.sleep(max(0.0, self._connected_at + _RELINK_S - time.monotonic()))
        while True:
            try:
                await self._connect()
            except OutlastError as exc:
                log.error("the shim can't be reached: %s", exc)  # noqa: TRY400 - the sentence says it all
                await asyncio.sleep(_RELINK_S)
            else:
                return

    async def _meet_again(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Go on with every process: with the shim that has it, else with a new one to which it is handed over."""
        crash_point("handover-begun")
        for process in found:
            live = self._live.get(process.record["id"])
            if live is not None:
                live.hold(process.slot, process.held)
            else:
                process.held.close()
                if await self._storage.process_by_id(process.record["id"]) is None:
                    await link.kill(process.record["id"])  # its start was answered with an error
                link.forget(process.slot)
        for live in self:
            if live.slot and live.handle:
                self._attach(live)
        while orphans := [live for live in self if not live.slot]:  # more may come while these are handed over
            for live in orphans:
                live.slot = await link.adopt(spec_to_record(live.spec), live.held, live.ending_for_shim())
                crash_point("handover-step")
                if live.handle:
                    self._attach(live)

    async def _take_up(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Bring store and shim together. The store says how far each output is, the shim has what comes after."""
        crash_point("recovery-begun")
        unfinished = {item.process.spec.id: item for item in await self._storage.unfinished()}
        changes: list[asyncio.Future[None]] = []
        for process in found:
            known = unfinished.pop(process.record["id"], None)
            if known is not None:
                live = LiveProcess(known.process.spec, known.process.run, process.slot, process.held)
                self._live[live.spec.id] = live
                self._go_on(live, known.process.handle, known.position)
            elif await self._storage.process_by_id(process.record["id"]) is not None:
                process.held.close()
                link.forget(process.slot)  # the kill came between the last commit and its acknowledgement
            else:
                changes.append(self._record(process))
            crash_point("recovery-step")
        if unfinished:  # what may be left of them has nobody who reads it
            await link.sweep(list(unfinished))
        changes += [lose(self._committer, item) for item in unfinished.values()]
        if changes:  # whoever asks first is to see them
            await asyncio.wait(changes, timeout=_RECOVERY_COMMIT_S)
        crash_point("recovery-done")

    def _go_on(self, live: LiveProcess, handle: int, position: Position) -> None:
        """Capture from where the store stands; behind a hole if it is not the store that acknowledged what is gone."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        missing = {stream: live.held.begins_at(stream) - ends[stream] for stream in live.captured}
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

    def _record(self, process: ShimProcess) -> asyncio.Future[None]:
        """Record a process whose daemon died between its start and the record of it."""
        spec = spec_from_record(process.record)
        run = Run(pid=process.held.pid, started_at_ms=process.held.started_at_ms)
        live = LiveProcess(spec, run, process.slot, process.held)
        self._live[spec.id] = live
        return self._submit_record(live)

    def _submit_record(self, live: LiveProcess) -> asyncio.Future[None]:
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(handle: int) -> None:
            self.total += 1
            self._go_on(live, handle, Position())
            recorded.set_result(None)

        self._committer.submit(AddProcess(live.spec, live.run), done)
        return recorded

    # ---- what the store refuses

    def _on_refused(self, change: Change, reason: str) -> None:
        live = next((live for live in self if _concerns(change, live)), None)
        if live is not None:
            live.stop()
            self._by_slot.pop(live.slot, None)
            self.refusals.add(live.spec.id, reason)

    async def _begin_again(self, process_id: str) -> None:
        """Let a process go on from where the store stands, as if this daemon had just been started."""
        live = self._live[process_id]
        stored = {item.process.spec.id: item for item in await self._storage.unfinished()}
        self.refusals.reasons.pop(process_id, None)
        if process_id in stored:
            self._go_on(live, live.handle, stored[process_id].position)
        elif not live.handle:
            self._submit_record(live)


def _concerns(change: Change, live: LiveProcess) -> bool:
    match change:
        case AddProcess(spec=spec):
            return spec.id == live.spec.id
        case WithdrawProcess(process_id=process_id):
            return process_id == live.spec.id
        case _:
            return change.handle == live.handle

"""The live processes: those that the shim looks after, the link to it, and how both are found again."""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.committer import Committer
from app.core.live import LiveProcess
from app.core.recent import RecentChunks
from app.core.records import spec_from_record
from app.crash import crash_point
from app.model.errors import OutlastError, ProtocolError, ShimUnavailable
from app.model.output import Position, Stream
from app.model.process import Ending, Process, Reason, Run
from app.shimlink import ShimLink, ShimProcess, connect_or_start
from app.storage import AddProcess, Change, CompleteOutput, EndRun, Storage, WithdrawProcess

log = logging.getLogger(__name__)

_RECOVERY_COMMIT_S = 5.0
_RELINK_S = 1.0
_HOLD_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimRoom:
    """What the shim may keep while nobody takes it, in bytes: of one process, and of all."""

    process_bytes: int
    total_bytes: int


class Supervisor:
    """Hears the shim's events and hands them to the process that they are about.

    Attributes:
        total: count of the processes in the store.
        refused: by id, why the store refuses what a process writes. Such a one is not attended to for a while.
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
        self._refusals: dict[str, int] = {}
        self.total = 0
        self.refused: dict[str, str] = {}
        committer.on_refused = self._on_refused

    def __iter__(self) -> Iterator[LiveProcess]:
        return iter(tuple(self._live.values()))

    def get(self, process_id: str) -> LiveProcess | None:
        """Return a live process by id."""
        return self._live.get(process_id)

    @property
    def connected(self) -> bool:
        """Whether the shim can be asked now."""
        return self._link is not None and self._link.connected

    @property
    def link(self) -> ShimLink:
        """The link to the shim.

        Raises:
            ShimUnavailable: it is down, and being looked for.
        """
        if self._link is None or not self._link.connected:
            raise ShimUnavailable("the shim is not connected now; it is being looked for")
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
        self.refused.clear()
        for live in self:
            live.stop()

    def close(self) -> None:
        """Leave the processes to the shim."""
        if self._link is not None:
            self._link.close()

    def add(self, live: LiveProcess) -> None:
        """Know a process from now on, also before it is recorded: readers must not take it for one that has ended."""
        self._live[live.spec.id] = live

    def attach(self, live: LiveProcess, link: ShimLink, slot: int, handle: int, position: Position) -> None:
        """Begin to capture, unless the link was lost meanwhile: then recovery does it."""
        if link is not self._link:
            return
        self._by_slot[slot] = live
        live.attach(
            link=link,
            slot=slot,
            handle=handle,
            position=position,
            committer=self._committer,
            recent=self._recent,
            on_finished=self.release,
        )

    def release(self, live: LiveProcess) -> None:
        """A process is finished, or was never recorded: there is nothing live about it."""
        self._live.pop(live.spec.id, None)
        self.refused.pop(live.spec.id, None)
        self._refusals.pop(live.spec.id, None)
        if self._by_slot.get(live.slot) is live:
            del self._by_slot[live.slot]

    # ---- events of the shim

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, data: bytes) -> None:
        """See `ShimEvents`."""
        crash_point("frame-read")
        live = self._by_slot.get(slot)
        if live is not None:
            try:
                live.on_output(stream, ts_ms, offset, data)
            except ProtocolError:
                log.exception("output of %s does not join", live.spec.id)
                self._abort_link()

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
            live.stdin_open = False

    def on_found(self, process: ShimProcess) -> None:
        """See `ShimEvents`: nobody has recorded it."""
        if self._link is not None:
            self._record(self._link, process)

    def on_link_lost(self) -> None:
        """See `ShimEvents`: look for the shim again, or for what can be done without it."""
        self._reconnecting = asyncio.create_task(self._reconnect(), name="reconnect")

    # ---- recovery: at start, and when the link was lost

    def _on_refused(self, change: Change, reason: str) -> None:
        """Let the process go on from where the store stands: at a new connection, which nothing is under way on."""
        live = next((live for live in self if _concerns(change, live)), None)
        if live is None:
            return
        live.stop()
        self._by_slot.pop(live.slot, None)
        times = self._refusals[live.spec.id] = self._refusals.get(live.spec.id, 0) + 1
        self.refused[live.spec.id] = reason
        hold_s = _HOLD_S[min(times, len(_HOLD_S)) - 1]
        asyncio.get_running_loop().call_later(hold_s, self._end_hold, live.spec.id)
        self._abort_link()

    def _end_hold(self, process_id: str) -> None:
        if self.refused.pop(process_id, None) is not None:
            self._abort_link()

    def _abort_link(self) -> None:
        if self._link is not None:
            self._link.abort()

    async def _connect(self) -> None:
        if self._link is not None:
            self._link.close()  # before the shim drops it for the new one, which would look like a loss
        link = await connect_or_start(
            self._state_dir,
            self,
            room_bytes=self._room.process_bytes,
            total_room_bytes=self._room.total_bytes,
        )
        self._link = link
        self._connected_at = time.monotonic()
        self._by_slot.clear()
        await self._take_up(link)

    async def _reconnect(self) -> None:
        for live in self:
            live.stop()  # what it would still cut and commit is not what the next connection begins with
        # A connection that breaks at once, again and again, must not become a busy loop.
        await asyncio.sleep(max(0.0, self._connected_at + _RELINK_S - time.monotonic()))
        while True:
            try:
                await self._committer.settled()
                await self._connect()
            except OutlastError as exc:
                log.error("the shim can't be reached: %s", exc)  # noqa: TRY400 - the sentence says it all
                await asyncio.sleep(_RELINK_S)
            else:
                return

    async def _take_up(self, link: ShimLink) -> None:
        """Bring store and shim together. The store says how far each output is, the shim has what comes after."""
        crash_point("recovery-begun")
        unfinished = {item.process.spec.id: item for item in await self._storage.unfinished()}
        for held in link.inventory:
            known = unfinished.pop(held.record["id"], None)
            if held.record["id"] in self.refused:
                continue
            if known is not None:
                _close_hole(link, held, known.position)
                live = self._live_of(known.process, stdin_open=held.stdin_open)
                self.attach(live, link, held.slot, known.process.handle, known.position)
            elif await self._storage.process_by_id(held.record["id"]) is not None:
                link.forget(held.slot)  # the kill came between the last commit and its acknowledgement
            else:
                self._record(link, held)
            crash_point("recovery-step")
        now_ms = time.time_ns() // 1_000_000
        losses = [self._lose(item.process, now_ms) for item in unfinished.values()]
        if losses:
            await asyncio.wait(losses, timeout=_RECOVERY_COMMIT_S)
        crash_point("recovery-done")

    def _live_of(self, process: Process, *, stdin_open: bool) -> LiveProcess:
        live = self._live.get(process.spec.id)
        if live is None:
            live = LiveProcess(process.spec, process.run, stdin_open=stdin_open)
            self._live[process.spec.id] = live
        live.stdin_open = stdin_open
        return live

    def _record(self, link: ShimLink, held: ShimProcess) -> None:
        """Record a process whose daemon died between its start and the record of it."""
        spec = spec_from_record(held.record)
        run = Run(pid=held.pid, started_at_ms=held.started_at_ms)
        live = self._live.get(spec.id) or LiveProcess(spec, run, stdin_open=held.stdin_open)
        self._live[spec.id] = live

        def done(handle: int) -> None:
            self.total += 1
            self.attach(live, link, held.slot, handle, Position())

        _close_hole(link, held, Position())  # it may have been written into a store that is not there any more
        self._committer.submit(AddProcess(spec, run), done)

    def _lose(self, process: Process, now_ms: int) -> asyncio.Future[None]:
        """Record that a process ended unseen."""
        live = self._live.get(process.spec.id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_handle: int) -> None:
            if live is not None:
                live.ended = live.end_stored = live.finished = True
                self.release(live)
                live.wake()
            if not future.done():
                future.set_result(None)

        if live is not None:
            live.stop()
        if process.run.ending is None:
            ending = Ending(reason=Reason.LOST, ended_at_ms=now_ms)
            self._committer.submit(EndRun(process.handle, process.run.number, ending), lambda _handle: None)
        self._committer.submit(CompleteOutput(process.handle, process.run.number), done)
        return future


def _concerns(change: Change, live: LiveProcess) -> bool:
    match change:
        case AddProcess(spec=spec):
            return spec.id == live.spec.id
        case WithdrawProcess(process_id=process_id):
            return process_id == live.spec.id
        case _:
            return change.handle == live.handle


def _close_hole(link: ShimLink, held: ShimProcess, position: Position) -> None:
    """Go on behind a hole that nothing can fill: the store is not the one that acknowledged what the shim let go of."""
    missing = max(held.stdout_from - position.stdout_end, 0) + max(held.stderr_from - position.stderr_end, 0)
    if missing:
        log.error(
            "the store does not have %d bytes that process %s printed and that were stored before: "
            "was it replaced by an older copy? Its output goes on behind them",
            missing,
            held.record["id"],
        )
        link.rebase(
            held.slot,
            Position(
                stdout_end=min(position.stdout_end, held.stdout_from),
                stderr_end=min(position.stderr_end, held.stderr_from),
            ),
        )

"""Bringing store, shim and daemon together again: when a daemon starts, and when it has lost its shim."""

import asyncio
import logging
from collections.abc import Callable

from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.live_registry import LiveRegistry
from outlast.core.supervision.lost import record_loss
from outlast.core.supervision.spec_record import run_of, spec_from_record, spec_to_record
from outlast.failpoints import failpoint
from outlast.model.output import GapReason, Position, Stream
from outlast.model.process import Process, Run
from outlast.shimlink import ShimLink, ShimProcess
from outlast.storage import AddProcess, BeginRun, Storage

log = logging.getLogger(__name__)

_RECOVERY_COMMIT_S = 5.0


class Recovery:
    """Takes up, goes on with, or gives up each process."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        table: LiveRegistry,
        *,
        begin: Callable[[LiveProcess, int, Position], None],
        attach: Callable[[LiveProcess], None],
        on_recorded: Callable[[], None],
    ) -> None:
        """Make it.

        Args:
            storage: says how far each output is.
            committer: records what is found.
            table: of the processes.
            begin: is called with a process that is recorded: its handle, and how far its output is stored.
            attach: is called with one that goes on through another link.
            on_recorded: is called when a process has been added to the store.
        """
        self._storage = storage
        self._committer = committer
        self._table = table
        self._begin = begin
        self._attach = attach
        self._on_recorded = on_recorded

    async def take_up(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Begin. The store says how far each output is, the shim has what comes after.

        Raises:
            ShimLost: the shim has died; nothing was changed.
        """
        failpoint("recovery-begun")
        unfinished = {item.process.key: item for item in await self._storage.unfinished()}
        held = {process.record["id"] for process in found}
        lost = [key for key in unfinished if key not in held]
        if lost:  # what may be left of them has nobody who reads it, and must not run on when it is called lost
            await link.sweep(lost)
        changes: list[asyncio.Future[None]] = []
        for process in found:
            known = unfinished.pop(process.record["id"], None)
            if known is not None:
                live = LiveProcess(known.process.spec, known.process.run, process.slot, process.held)
                self._table.add(live)
                self.go_on(live, known.process.handle, known.position)
            else:
                changes += await self._look_up(link, process)
            failpoint("recovery-step")
        changes += [record_loss(item, self._committer) for item in unfinished.values()]
        if changes:  # whoever asks first is to see them
            await asyncio.wait(changes, timeout=_RECOVERY_COMMIT_S)
        failpoint("recovery-done")

    async def meet_again(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Go on with every process: with the shim that has it, else with a new one to which it is handed over."""
        failpoint("handover-begun")
        strangers = []
        for process in found:
            process_id, number = run_of(process.record)
            live = self._table.get(process_id)
            if live is not None and live.run.number == number:
                live.hold(process.slot, process.held)
            else:
                process.held.close()
                strangers.append(process)
        for live in self._table:
            if live.slot and live.handle:
                self._attach(live)
        for process in strangers:
            await self._turn_away(link, process)
        while orphans := [live for live in self._table if not live.slot]:  # more may come while these are handed over
            for live in orphans:
                await self._hand_over(link, live)

    def go_on(self, live: LiveProcess, handle: int, position: Position) -> None:
        """Capture from where the store stands; behind a hole if it is not the store that acknowledged what is gone."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        missing = {stream: live.held.begins_at(stream) - ends[stream] for stream in live.spec.captured}
        self._begin(live, handle, position)
        for stream, count in missing.items():
            if count > 0:
                log.error(
                    "the store does not have %d bytes that process %s printed and that were stored before: was it "
                    "replaced by an older copy? Its output goes on behind a gap",
                    count,
                    live.spec.id,
                )
                live.skip(stream, count, GapReason.STORE_REPLACED)

    async def begin_again(self, live: LiveProcess) -> None:
        """Let a process whose changes the store has refused go on from where the store stands."""
        stored = {item.process.spec.id: item for item in await self._storage.unfinished()}
        if live.spec.id in stored:
            self.go_on(live, live.handle, stored[live.spec.id].position)
        elif not live.handle:
            self._submit_record(live)

    async def _look_up(self, link: ShimLink, process: ShimProcess) -> list[asyncio.Future[None]]:
        """Record a run whose daemon died between its start and the record of it. What is not wanted is forgotten."""
        process_id, number = run_of(process.record)
        stored = await self._storage.process_by_id(process_id)
        latest = stored.run.number if stored is not None else 0
        if process.held.failed is None and number == latest + 1:
            return [await self._record(process, number, stored)]
        if number > latest:
            await link.kill(process.record["id"])
        process.held.close()
        link.forget(process.slot)  # or the kill came between the last commit and its acknowledgement
        return []

    async def _record(self, process: ShimProcess, number: int, stored: Process | None) -> asyncio.Future[None]:
        spec = spec_from_record(process.record)
        run = Run(number=number, pid=process.held.pid, started_at_ms=process.held.started_at_ms)
        live = LiveProcess(spec, run, process.slot, process.held)
        if stored is None:
            self._table.add(live)
            return self._submit_record(live)
        position = await self._storage.position(stored.handle)
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: int) -> None:
            self.go_on(live, stored.handle, position)
            recorded.set_result(None)

        self._table.add(live)
        self._committer.submit(BeginRun(stored.handle, run), done)
        return recorded

    def _submit_record(self, live: LiveProcess) -> asyncio.Future[None]:
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(handle: int) -> None:
            self._on_recorded()
            self.go_on(live, handle, Position())
            if not recorded.done():
                recorded.set_result(None)

        self._committer.submit(AddProcess(live.spec, live.run), done)
        return recorded

    async def _turn_away(self, link: ShimLink, process: ShimProcess) -> None:
        """Nobody waits for it any more, or its start was answered with an error."""
        process_id, number = run_of(process.record)
        stored = await self._storage.process_by_id(process_id)
        if stored is None or stored.run.number < number:
            await link.kill(process.record["id"])
        link.forget(process.slot)

    async def _hand_over(self, link: ShimLink, live: LiveProcess) -> None:
        if not self._table.has(live):
            return  # the last of it has been stored meanwhile
        slot = await link.adopt(spec_to_record(live.spec, live.run.number), live.held, live.ending_for_shim())
        failpoint("handover-step")
        if not self._table.has(live):
            link.forget(slot)
            return
        live.slot = slot
        if live.handle:
            self._attach(live)

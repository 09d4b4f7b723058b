"""Recovery: store, shim and daemon brought together, when a daemon starts and when it has lost its shim."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from outlast.core.output.committer import Committer
from outlast.core.supervision.checks import check_keys
from outlast.core.supervision.live_process import LiveProcess, RunRecorder
from outlast.core.supervision.live_registry import LiveRegistry
from outlast.core.supervision.lost import record_loss
from outlast.core.supervision.spec_record import run_of, spec_from_record, spec_to_record
from outlast.failpoints import failpoint
from outlast.model.options import HealthCheckType
from outlast.model.output import GapReason, Position, Stream
from outlast.model.process import Process, ProcessSpec, Run
from outlast.shimlink import ShimLink, ShimProcess
from outlast.storage import AddProcess, BeginRun, Storage

log = logging.getLogger(__name__)

_RECOVERY_COMMIT_S = 5.0


class Recovery:
    """The decision for each process whether it is resumed, handed over, recorded, or recorded as lost."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        registry: LiveRegistry,
        *,
        start_recording: Callable[[LiveProcess, int, Position], RunRecorder],
        attach: Callable[[LiveProcess], None],
        on_added: Callable[[], None],
        store_is_stand_in: bool = False,
    ) -> None:
        """Create the recovery of one daemon.

        Args:
            storage: tells how far each output is stored.
            committer: commits what is found.
            registry: the live processes.
            start_recording: called with a process that is recorded, its handle, and how far its output is stored.
            attach: called with a process that continues with another link.
            on_added: called when a process has been added to the store.
            store_is_stand_in: whether the store is an empty one in place of the one that knows the processes.
        """
        self._storage = storage
        self._committer = committer
        self._registry = registry
        self._start_recording = start_recording
        self._attach = attach
        self._on_added = on_added
        self._store_is_stand_in = store_is_stand_in

    async def recover(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Resume every process when the daemon starts. The store tells how far output is stored, the shim has the rest.

        Raises:
            ShimLost: the shim has died; nothing was changed.
        """
        failpoint("recovery-begun")
        unfinished = {item.process.key: item for item in await self._storage.unfinished()}
        held = {process.record["id"] for process in found}
        lost = [key for key in unfinished if key not in held]
        if lost:  # no process of their trees may run on once they are recorded as lost: its output has no reader
            await link.sweep([*lost, *_checks_of([unfinished[key].process for key in lost])])
            log.warning(
                "%d processes ended while neither a daemon nor the shim could see it; they are recorded as lost",
                len(lost),
            )
        ended = {unfinished[key].process.spec.id for key in lost}
        changes = [record_loss(unfinished.pop(key), self._committer) for key in lost]
        if any(run_of(process.record)[0] in ended for process in found):  # a later run, which continues behind the loss
            await asyncio.wait(changes, timeout=_RECOVERY_COMMIT_S)
        for process in found:
            known = unfinished.pop(process.record["id"], None)
            if known is not None:
                live = _live_of(process, known.process.run, known.process.spec)
                self._registry.register(live)
                self._resume(live, known.process.handle, known.position)
            else:
                changes += await self._recover_unrecorded(link, process)
            failpoint("recovery-step")
        if changes:  # the first request is to see them
            await asyncio.wait(changes, timeout=_RECOVERY_COMMIT_S)
        failpoint("recovery-done")

    async def reconnect(self, link: ShimLink, found: list[ShimProcess]) -> None:
        """Continue every process: with the shim that has it, else handed over to the new one."""
        failpoint("handover-begun")
        unknown = []
        for process in found:
            process_id, number = run_of(process.record)
            live = self._registry.get(process_id)
            if live is not None and live.run.number == number:
                live.hold(process.slot, process.held)
            else:
                process.held.close()
                unknown.append(process)
        for live in self._registry:
            if live.slot and live.recorder is not None:
                self._attach(live)
        for process in unknown:
            await self._discard(link, process)
        while orphans := [live for live in self._registry if not live.slot]:  # more may come during the handover
            for live in orphans:
                await self._hand_over(link, live)

    async def resume_quarantined(self, live: LiveProcess) -> None:
        """Resume a process whose changes the store has rejected from where the store stands."""
        stored = {item.process.spec.id: item for item in await self._storage.unfinished()}
        if live.spec.id in stored:
            self._resume(live, live.handle, stored[live.spec.id].position)
        elif not live.handle:
            self._submit_record(live)

    def _resume(self, live: LiveProcess, handle: int, position: Position) -> None:
        """Record output from where the store stands; after a gap if acknowledged output is missing in the store."""
        ends = {Stream.STDOUT: position.stdout_end, Stream.STDERR: position.stderr_end}
        missing = {stream: live.held.begins_at(stream) - ends[stream] for stream in live.spec.captured}
        recorder = self._start_recording(live, handle, position)
        for stream, count in missing.items():
            if count > 0:
                if not self._store_is_stand_in:
                    log.error(
                        "the store lacks %d bytes of process %s that were stored before: was the store replaced by an "
                        "older copy? The process's output continues after a gap",
                        count,
                        live.spec.id,
                    )
                recorder.append_gap(stream, count, GapReason.STORE_REPLACED)

    async def _recover_unrecorded(self, link: ShimLink, process: ShimProcess) -> list[asyncio.Future[int]]:
        """Record a run that the store lacks; let the shim forget one that is over.

        Its daemon died between the spawn and the record of it, or the store is a new one or an older copy. A run that
        is not the next one was recorded in another store, unless it still waits at its gate.
        """
        process_id, number = run_of(process.record)
        stored = await self._storage.process_by_id(process_id)
        latest = stored.run.number if stored is not None else 0
        is_next = number == latest + 1
        was_recorded = number > latest and not process.held.starting
        if process.held.failed is None and (is_next or was_recorded or self._store_is_stand_in):
            return [await self._record(process, number, stored)]
        if number > latest:
            await link.kill(process.record["id"])
        process.held.close()
        link.forget(process.slot)  # its daemon may have died between the last commit and its acknowledgement
        return []

    async def _record(self, process: ShimProcess, number: int, stored: Process | None) -> asyncio.Future[int]:
        run = Run(number=number, pid=process.held.pid, started_at_ms=process.held.started_at_ms)
        live = _live_of(process, run, None if stored is None else stored.spec)
        if stored is None:
            self._registry.register(live)
            return self._submit_record(live)
        handle, position = stored.handle, await self._storage.position(stored.handle)
        self._registry.register(live)
        return self._committer.stored(BeginRun(handle, run), lambda _: self._resume(live, handle, position))

    def _submit_record(self, live: LiveProcess) -> asyncio.Future[int]:
        def on_stored(handle: int) -> None:
            self._on_added()
            self._resume(live, handle, Position())

        return self._committer.stored(AddProcess(live.spec, live.run), on_stored)

    async def _discard(self, link: ShimLink, process: ShimProcess) -> None:
        """Let the shim forget a run that this daemon no longer has: it is finished, or its start was undone."""
        process_id, number = run_of(process.record)
        stored = await self._storage.process_by_id(process_id)
        if stored is None or stored.run.number < number:
            await link.kill(process.record["id"])
        link.forget(process.slot)

    async def _hand_over(self, link: ShimLink, live: LiveProcess) -> None:
        if not self._registry.has(live):
            return  # its last output has been stored meanwhile
        slot = await link.adopt(spec_to_record(live.spec, live.run.number), live.held, live.ending_for_shim())
        failpoint("handover-step")
        if not self._registry.has(live):
            link.forget(slot)
            return
        live.slot = slot
        if live.recorder is not None:
            self._attach(live)


def _live_of(process: ShimProcess, run: Run, stored: ProcessSpec | None) -> LiveProcess:
    """Return a run as it was started. Its specification may be a later one than that of the store."""
    spec = spec_from_record(process.record)
    live = LiveProcess(spec, run, process.slot, process.held)
    if stored is not None:  # that of a key that two starts had is without it
        live.is_spec_stored = replace(spec, idempotency_key=None) == replace(stored, idempotency_key=None)
    return live


def _checks_of(processes: Iterable[Process]) -> Iterator[str]:
    """Yield the keys that commands may have which have checked the health of runs."""
    for process in processes:
        check = process.spec.options.health_check
        if check is not None and check.type is HealthCheckType.EXEC:
            yield from check_keys(process.spec.id, process.run.number)

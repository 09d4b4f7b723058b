"""Conformance tests of retention: what has ended for good, and why it was purged."""

from dataclasses import replace

from outlast.model.event import EventFilter, EventType, PurgeReason
from outlast.model.managed import Desired, ManagedState
from outlast.model.options import Keep
from outlast.model.process import Run
from outlast.model.retention import Rule
from outlast.storage.base import (
    AddProcess,
    BeginRun,
    CompleteOutput,
    EndedProcess,
    EndRun,
    PurgeProcess,
    SetManaged,
    Storage,
    WithdrawRun,
)
from outlast.testing.storage.samples import EPOCH_MS, added, end_of, new_process
from outlast.testing.storage.suite import StorageSuite
from outlast.testing.storage.trimming import kept

_STOPPED = ManagedState(desired=Desired.STOPPED)


async def _handles(storage: Storage) -> list[int]:
    return [ended.handle for ended in await storage.ended(limit=100)]


def _end_at(handle: int, ms: int, run: int = 1) -> EndRun:
    change = end_of(handle, run=run)
    return replace(change, ending=replace(change.ending, ended_at_ms=EPOCH_MS + ms))


class RetentionConformance(StorageSuite):
    """The contract's promises about what can be deleted because it is old."""

    async def test_ended_processes_come_oldest_end_first(self, storage: Storage) -> None:
        """Pages follow one another in the order of ends; of equal ends, the lower handle is first."""
        handles = [await added(storage) for _ in range(4)]
        for handle, ms in zip(handles, (30, 10, 20, 10), strict=True):
            await storage.commit([_end_at(handle, ms), CompleteOutput(handle, 1)])
        order = [handles[1], handles[3], handles[2], handles[0]]
        everything = await storage.ended(limit=100)
        assert [ended.handle for ended in everything] == order
        assert [ended.ended_at_ms - EPOCH_MS for ended in everything] == [10, 10, 20, 30]
        process = await storage.process(order[0])
        assert process is not None
        assert everything[0].process_id == process.spec.id
        assert await storage.ended(limit=3) == everything[:3]
        assert await storage.ended(limit=2, after=everything[0]) == everything[1:3]
        assert await storage.ended(limit=9, until_ms=EPOCH_MS + 20) == everything[:3]
        assert await storage.ended(limit=9, after=everything[2], until_ms=EPOCH_MS + 20) == []
        await storage.commit([PurgeProcess(order[1])])
        assert await storage.ended(limit=9, after=everything[1]) == everything[2:]
        assert await _handles(storage) == [order[0], *order[2:]]

    async def test_only_what_is_wholly_stored_has_ended(self, storage: Storage) -> None:
        """Both the end and the rest of the output must be stored, in whichever order."""
        first, second = await added(storage), await added(storage)
        await storage.commit([end_of(first), CompleteOutput(second, 1)])
        assert await _handles(storage) == []
        await storage.commit([CompleteOutput(first, 1), end_of(second)])
        assert await _handles(storage) == [first, second]

    async def test_a_process_may_be_added_with_its_end(self, storage: Storage) -> None:
        """A process that is recorded after its end has ended."""
        change = new_process()
        run = replace(change.run, ending=end_of(1).ending, output_complete=True)
        assert await _handles(storage) == []
        handle = await added(storage, AddProcess(change.spec, run))
        assert await storage.ended(limit=1) == [EndedProcess(end_of(1).ending.ended_at_ms, handle, change.spec.id)]

    async def test_a_managed_process_ends_when_it_is_to_stop(self, storage: Storage) -> None:
        """A process that may be restarted is left out until its desired state is `STOPPED`."""
        handle = await added(storage, new_process(name="web"))
        await storage.commit([end_of(handle), CompleteOutput(handle, 1)])
        assert await _handles(storage) == []
        await storage.commit([SetManaged(handle, _STOPPED)])
        assert await _handles(storage) == [handle]
        await storage.commit([SetManaged(handle, ManagedState())])
        assert await _handles(storage) == []

    async def test_only_the_current_run_counts(self, storage: Storage) -> None:
        """A later run takes the process back; its withdrawal leaves the end of the run before."""
        handle = await added(storage, new_process(name="web"))
        await storage.commit([_end_at(handle, 10), CompleteOutput(handle, 1), SetManaged(handle, _STOPPED)])
        begin = BeginRun(handle, Run(number=2, pid=4712, started_at_ms=EPOCH_MS + 20))
        await storage.commit([begin])
        assert await _handles(storage) == []
        await storage.commit([WithdrawRun(handle, 2)])
        assert [ended.ended_at_ms - EPOCH_MS for ended in await storage.ended(limit=9)] == [10]
        await storage.commit([begin, _end_at(handle, 30, run=2), CompleteOutput(handle, 2)])
        assert [ended.ended_at_ms - EPOCH_MS for ended in await storage.ended(limit=9)] == [30]

    async def test_a_start_may_say_how_long_its_process_is_kept(self, storage: Storage) -> None:
        """A process that is kept always is left out; one with a time of its own goes by that, not by the setting's."""
        plain, always, short, ever = [
            await added(storage, kept(keep)) for keep in (None, Keep(always=True), Keep(ended_s=10), Keep(ended_s=0))
        ]
        for handle in (plain, always, short, ever):
            await storage.commit([_end_at(handle, handle), CompleteOutput(handle, 1)])
        assert await _handles(storage) == [plain, short, ever]
        assert [ended.handle for ended in await storage.ended(limit=9, until_ms=EPOCH_MS + 60_000)] == [plain]
        due_ms = EPOCH_MS + short + 10_000
        assert await storage.ended(limit=9, own_until_ms=due_ms - 1) == []
        assert [ended.handle for ended in await storage.ended(limit=9, own_until_ms=due_ms)] == [short]
        assert await storage.kept_always() == 1
        await storage.commit([PurgeProcess(always)])
        assert await storage.kept_always() == 0

    async def test_a_purge_may_say_why(self, storage: Storage) -> None:
        """The event of a purge has its reason, and none if a caller asked for the purge."""
        first, second = await added(storage), await added(storage)
        await storage.commit([PurgeProcess(first, Rule.ENDED), PurgeProcess(second)])
        page = await storage.events(0, 10, EventFilter(types=frozenset({EventType.PURGED})))
        assert [event.purge_reason for event in page.events] == [PurgeReason.RETENTION, None]
        assert [event.ending for event in page.events] == [None, None]

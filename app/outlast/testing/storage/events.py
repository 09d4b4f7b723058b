"""Conformance tests of events: the changes that add one, order, ranges, filters, and purges."""

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.model.event import Event, EventFilter, EventType
from outlast.model.process import ExitStatus, Reason, Run
from outlast.storage.base import (
    AddEvent,
    BeginRun,
    Change,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    Storage,
    WithdrawProcess,
    WithdrawRun,
)
from outlast.testing.storage.samples import EPOCH_MS, Output, added, end_of, new_process
from outlast.testing.storage.suite import StorageSuite

_ANY = EventFilter()
_LOST = ExitStatus(reason=Reason.LOST, ended_at_ms=EPOCH_MS + 5)


async def read_events(
    storage: Storage, after: int = 0, wanted: EventFilter = _ANY, *, limit: int = 1000
) -> list[Event]:
    """Return all matching events after `after`, read `limit` at a time."""
    found: list[Event] = []
    while True:
        page = await storage.events(after, limit, wanted)
        assert len(page.events) <= limit
        assert all(after < event.id <= page.last_id for event in page.events)
        found += page.events
        if page.last_id == after:
            assert not page.events
            return found
        after = page.last_id


def _told(events: list[Event]) -> list[tuple[str, EventType]]:
    return [(event.process_id, event.type) for event in events]


class EventConformance(StorageSuite):
    """The contract's promises about events."""

    async def test_a_new_storage_has_no_events(self, storage: Storage) -> None:
        """No read finds an event, from any position."""
        for after in (0, 7):
            page = await storage.events(after, 10, _ANY)
            assert (page.events, page.last_id) == ([], after)
        assert await storage.event_tail(0, _ANY) == 0
        assert await storage.event_tail(3, _ANY) == 0

    async def test_events_are_told_in_order(self, storage: Storage) -> None:
        """Each start and each end has one event with all details, within one batch and between batches."""
        first, second = new_process(pid=7, name="web", team="a"), new_process(pid=8, started_at_ms=EPOCH_MS + 1)
        handles = await storage.commit([first, second])
        one, two = (handles[change.spec.id] for change in (first, second))
        killed = ExitStatus(reason=Reason.TIMED_OUT, signal=9, ended_at_ms=EPOCH_MS + 3)
        await storage.commit([Output(one).chunk(b"x\n"), EndRun(two, 1, killed), EndRun(one, 1, _LOST)])
        found = await read_events(storage)
        ids = [event.id for event in found]
        assert ids == sorted(set(ids))
        assert ids[0] > 0
        web = Event(
            id=ids[0],
            type=EventType.STARTED,
            ts_ms=EPOCH_MS,
            process_id=first.spec.id,
            name="web",
            tags={"team": "a"},
            run=1,
            pid=7,
        )
        plain = replace(web, id=ids[1], ts_ms=EPOCH_MS + 1, process_id=second.spec.id, name=None, tags={}, pid=8)
        assert found == [
            web,
            plain,
            replace(plain, id=ids[2], type=EventType.EXITED, ts_ms=killed.ended_at_ms, ending=killed),
            replace(web, id=ids[3], type=EventType.LOST, ts_ms=_LOST.ended_at_ms, ending=_LOST),
        ]

    async def test_a_process_that_is_added_with_its_end_tells_both(self, storage: Storage) -> None:
        """A process that is added with its end has two events, its start and its end."""
        change = new_process()
        await storage.commit([replace(change, run=replace(change.run, ending=_LOST))])
        assert [event.type for event in await read_events(storage)] == [EventType.STARTED, EventType.LOST]

    async def test_a_repeated_commit_has_one_event(self, storage: Storage) -> None:
        """A change that is repeated or has no effect adds no event, within one batch and between batches."""
        change = new_process()
        handle = await added(storage, change)
        ill = AddEvent(handle, 1, EventType.UNHEALTHY, EPOCH_MS + 1)
        nobody = handle + 1
        batch: list[Change] = [change, ill, ill, end_of(handle), end_of(handle, exit_code=4), CompleteOutput(handle, 1)]
        for _ in range(2):
            await storage.commit([*batch, replace(ill, handle=nobody), replace(ill, run=2), end_of(nobody)])
        await storage.commit([replace(ill, ts_ms=EPOCH_MS + 2)])
        types = [EventType.STARTED, EventType.UNHEALTHY, EventType.EXITED, EventType.UNHEALTHY]
        assert [event.type for event in await read_events(storage)] == types

    async def test_later_runs_tell_their_starts_and_ends(self, storage: Storage) -> None:
        """`RESTARTED` and the end name run and pid; a withdrawn run tells `FAILED`. A repetition tells nothing."""
        change = new_process(pid=7, name="web", team="a")
        handle = await added(storage, change)
        second, third = (Run(number=n, pid=n * 100, started_at_ms=EPOCH_MS + n) for n in (2, 3))
        await storage.commit([end_of(handle), BeginRun(handle, second)])
        for _ in range(2):
            await storage.commit([BeginRun(handle, second), end_of(handle, run=2, exit_code=4)])
            await storage.commit([BeginRun(handle, second), WithdrawRun(handle, 9), WithdrawRun(handle, 1)])
        await storage.commit([BeginRun(handle, third), BeginRun(handle, third)])
        for _ in range(2):
            await storage.commit([WithdrawRun(handle, 3), BeginRun(handle + 1, third)])
        found = await read_events(storage)
        told = [(event.type, event.run, event.pid) for event in found]
        assert told == [
            (EventType.STARTED, 1, 7),
            (EventType.EXITED, 1, 7),
            (EventType.RESTARTED, 2, 200),
            (EventType.EXITED, 2, 200),
            (EventType.RESTARTED, 3, 300),
            (EventType.FAILED, 3, 300),
        ]
        assert [event.ts_ms for event in found[2::2]] == [second.started_at_ms, third.started_at_ms]
        assert {(event.process_id, event.name, event.tags["team"]) for event in found} == {(change.spec.id, "web", "a")}
        ends = [event.ending.exit_code for event in found if event.ending is not None]
        assert ends == [0, 4]
        assert found[-1].ts_ms > EPOCH_MS

    async def test_a_deleted_process_leaves_one_event(self, storage: Storage) -> None:
        """Only `PURGED` or `FAILED` remains, once; the events of other processes stay, and no id is used again."""
        changes = [new_process(pid=50 + n, team="a") for n in range(3)]
        purged, withdrawn, kept = (change.spec.id for change in changes)
        handles = await storage.commit(changes)
        await storage.commit([end_of(handles[purged]), end_of(handles[kept])])
        before = await read_events(storage)
        for _ in range(2):
            await storage.commit([WithdrawProcess(withdrawn), PurgeProcess(handles[purged]), end_of(handles[purged])])
            await storage.commit([WithdrawProcess(new_process().spec.id)])
            found = await read_events(storage)
            assert found[:2] == [event for event in before if event.process_id == kept]
            assert _told(found[2:]) == [(withdrawn, EventType.FAILED), (purged, EventType.PURGED)]
        assert found[2].id > before[-1].id
        assert (found[3].pid, found[3].run, found[3].tags, found[3].ending) == (50, 1, {"team": "a"}, None)
        assert found[3].ts_ms > EPOCH_MS
        await storage.commit([PurgeProcess(handles[kept])])
        last = await storage.event_tail(0, _ANY)
        await added(storage)
        (new,) = await read_events(storage, last)
        assert new.id > last

    @pytest.mark.parametrize("limit", [1, 2, 100])
    async def test_events_are_filtered(self, storage: Storage, limit: int) -> None:
        """Filters apply to process, types, tags and time, alone and together, after any id, and to the tail."""
        first = new_process(team="a", tier="web")
        second = new_process(started_at_ms=EPOCH_MS + 100, team="a")
        third = new_process(started_at_ms=EPOCH_MS + 50, team="b")  # the clock was set back
        handles = await storage.commit([first, second, third])
        one, two, three = (handles[change.spec.id] for change in (first, second, third))
        await storage.commit([EndRun(one, 1, _LOST), end_of(two), PurgeProcess(three)])
        everything = await read_events(storage)
        for wanted, expected in [
            (EventFilter(), 5),
            (EventFilter(process_id=first.spec.id), 2),
            (EventFilter(process_id=third.spec.id), 1),
            (EventFilter(process_id=new_process().spec.id), 0),
            (EventFilter(types=frozenset({EventType.STARTED})), 2),
            (EventFilter(types=frozenset({EventType.LOST, EventType.EXITED})), 2),
            (EventFilter(types=frozenset({EventType.FAILED})), 0),
            (EventFilter(tags={"team": "a"}), 4),
            (EventFilter(tags={"team": "a", "tier": "web"}), 2),
            (EventFilter(tags={"team": "b"}, types=frozenset({EventType.PURGED})), 1),
            (EventFilter(since_ms=EPOCH_MS), 5),
            (EventFilter(since_ms=EPOCH_MS + 60), 3),
            (EventFilter(since_ms=EPOCH_MS + 101), 2),
            (EventFilter(since_ms=2 * EPOCH_MS), 0),
            (EventFilter(since_ms=EPOCH_MS + 60, process_id=second.spec.id, tags={"team": "a"}), 2),
        ]:
            matching = [event for event in everything if wanted.matches(event)]
            assert len(matching) == expected, wanted
            for after in range(everything[-1].id + 2):
                found = await read_events(storage, after, wanted, limit=limit)
                assert found == [event for event in matching if event.id > after], wanted
            for count in range(1, 7):
                after = await storage.event_tail(count, wanted)
                assert await read_events(storage, after, wanted) == matching[-count:], wanted
            after = await storage.event_tail(0, wanted)
            assert await read_events(storage, after, wanted) == []

    async def test_events_survive_reopening(self, tmp_path: Path) -> None:
        """Events keep their ids, and later ids continue from there."""
        if not self.persistent:
            pytest.skip("the storage is not persistent")
        storage = self.make_storage(tmp_path)
        await storage.open()
        handle = await added(storage)
        await storage.commit([end_of(handle)])
        await storage.commit([PurgeProcess(await added(storage))])
        before = await read_events(storage)
        await storage.close()
        storage = self.make_storage(tmp_path)
        await storage.open()
        try:
            assert await read_events(storage) == before
            await added(storage)
            found = await read_events(storage)
            assert found[:-1] == before
            assert found[-1].id > before[-1].id
        finally:
            await storage.close()

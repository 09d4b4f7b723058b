"""The event feed: its followers are woken by commits, also during a read, and end with the daemon."""

import asyncio
from collections.abc import Sequence

import pytest

from outlast.core.query.event_feed import EventFeed, EventQuery
from outlast.core.query.follow import FollowInterrupted
from outlast.model.errors import StorageUnavailable
from outlast.model.event import Event, EventFilter, EventPage
from outlast.storage import Change, storage_from_url
from outlast.storage.memory.storage import MemoryStorage
from outlast.testing.storage.samples import Output, added, end_of, new_process
from tests.support.waiting import eventually

EVERYTHING = EventQuery(wanted=EventFilter())
LONG_S = 60.0
DEADLINE_S = 10.0


class BusyStorage(MemoryStorage):
    """A storage that commits something just after each read, and whose first read fails."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = EventFeed(self)
        self.after_reads: list[Sequence[Change]] = []
        self.reads = 0

    async def commit_and_notify(self, changes: Sequence[Change]) -> None:
        """Commit changes, and notify the feed."""
        await self.commit(changes)
        self.feed.on_committed(changes)

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        self.reads += 1
        if self.reads == 1:
            raise StorageUnavailable("busy")
        page = await super().events(after, limit, wanted)
        if self.after_reads:
            await self.commit_and_notify(self.after_reads.pop(0))
        return page


async def follow_events(feed: EventFeed, count: int, heartbeat_s: float = LONG_S) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        async for events in feed.follow(EVERYTHING, heartbeat_s):
            found += [event for event in events or () if isinstance(event, Event)]
            if len(found) >= count:
                return found
    raise AssertionError("the follow stream ended")


async def test_an_event_committed_during_a_read_is_read_at_once() -> None:
    storage = BusyStorage()
    storage.after_reads = [[new_process()] for _ in range(5)]
    assert [event.id for event in await follow_events(storage.feed, 5)] == [1, 2, 3, 4, 5]


async def test_only_a_commit_of_events_wakes_a_follower() -> None:
    storage = BusyStorage()
    handle = await added(storage)
    waiting = asyncio.create_task(follow_events(storage.feed, 2))
    await eventually(lambda: storage.reads == 3)  # one fails, one returns the start, one returns nothing
    await storage.commit_and_notify([Output(handle).chunk(b"x\n")])
    await asyncio.sleep(0)
    assert (storage.reads, waiting.done()) == (3, False)
    await storage.commit_and_notify([end_of(handle)])
    assert [event.id for event in await waiting] == [1, 2]


async def test_a_follower_gets_heartbeats_until_the_daemon_stops() -> None:
    feed = EventFeed(storage_from_url("memory:"))
    following = feed.follow(EVERYTHING, 0.01)
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(following) in ([], ())
        assert await anext(following) in ([], ())
        feed.interrupt()
        with pytest.raises(FollowInterrupted):
            await anext(following)
        with pytest.raises(FollowInterrupted):
            await anext(feed.follow(EVERYTHING, LONG_S))


async def test_a_read_of_stored_events_ends_on_a_busy_store() -> None:
    storage = BusyStorage()
    storage.reads = 1
    await storage.commit_and_notify([new_process(), new_process()])
    storage.after_reads = [[new_process()] for _ in range(100)]
    found = [event.id async for events in storage.feed.stored(EVERYTHING) for event in events]
    assert found == [1, 2]

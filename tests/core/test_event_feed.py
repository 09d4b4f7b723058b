"""The cursor over events: woken by commits, and by those that come while it reads; ended by the daemon's end."""

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


class Busy(MemoryStorage):
    """Something is committed just behind each read, and the first read fails."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = EventFeed(self)
        self.behind_reads: list[Sequence[Change]] = []
        self.reads = 0

    async def put(self, changes: Sequence[Change]) -> None:
        """Commit, and tell the feed."""
        await self.commit(changes)
        self.feed.on_committed(changes)

    async def events(self, after: int, limit: int, wanted: EventFilter) -> EventPage:
        self.reads += 1
        if self.reads == 1:
            raise StorageUnavailable("busy")
        page = await super().events(after, limit, wanted)
        if self.behind_reads:
            await self.put(self.behind_reads.pop(0))
        return page


async def take(feed: EventFeed, count: int, heartbeat_s: float = LONG_S) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        async for events in feed.follow(EVERYTHING, heartbeat_s):
            found += events
            if len(found) >= count:
                return found
    raise AssertionError("it ended")


async def test_what_is_committed_while_it_reads_is_not_waited_for() -> None:
    storage = Busy()
    storage.behind_reads = [[new_process()] for _ in range(5)]
    assert [event.id for event in await take(storage.feed, 5)] == [1, 2, 3, 4, 5]


async def test_a_commit_wakes_a_follower_and_output_does_not() -> None:
    storage = Busy()
    handle = await added(storage)
    waiting = asyncio.create_task(take(storage.feed, 2))
    await eventually(lambda: storage.reads == 3)  # one fails, one finds the start, one finds nothing more
    await storage.put([Output(handle).chunk(b"x\n")])
    await asyncio.sleep(0)
    assert (storage.reads, waiting.done()) == (3, False)
    await storage.put([end_of(handle)])
    assert [event.id for event in await waiting] == [1, 2]


async def test_heartbeats_and_the_daemons_end() -> None:
    feed = EventFeed(storage_from_url("memory:"))
    following = feed.follow(EVERYTHING, 0.01)
    async with asyncio.timeout(DEADLINE_S):
        assert list(await anext(following)) == []
        assert list(await anext(following)) == []
        feed.interrupt()
        with pytest.raises(FollowInterrupted):
            await anext(following)
        with pytest.raises(FollowInterrupted):
            await anext(feed.follow(EVERYTHING, LONG_S))


async def test_reading_what_is_stored_ends_on_a_busy_store() -> None:
    storage = Busy()
    storage.reads = 1
    await storage.put([new_process(), new_process()])
    storage.behind_reads = [[new_process()] for _ in range(100)]
    found = [event.id async for events in storage.feed.stored(EVERYTHING) for event in events]
    assert found == [1, 2]

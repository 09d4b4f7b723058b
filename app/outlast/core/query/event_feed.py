"""Following what happens to processes: a cursor over the stored events. History and live are the same loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from outlast.core.condition import Condition
from outlast.core.query.output_cursor import FollowInterrupted
from outlast.model.errors import StorageUnavailable
from outlast.model.event import Event, EventFilter
from outlast.model.output import Chunk
from outlast.storage import Change, CompleteOutput, Storage

_PAGE_EVENTS = 500
_READ_AGAIN_S = 0.5
_LEAST_READ_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events.

    Attributes:
        wanted: conditions.
        after: only those with a greater id.
        tail: only the last so many of those that are wanted and stored when the reading begins, and what comes then.
    """

    wanted: EventFilter
    after: int = 0
    tail: int | None = None


class EventFeed(Condition):
    """Wakes those who wait for events, and reads for them. A follower is a cursor: nothing is queued for it."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage
        self._commits = 0
        self._closing = False

    def on_committed(self, changes: Sequence[Change]) -> None:
        """Changes are stored. Of output alone, nobody wakes up."""
        if not all(isinstance(change, Chunk | CompleteOutput) for change in changes):
            self._commits += 1
            self.wake()

    def interrupt(self) -> None:
        """End every `follow` with `FollowInterrupted`, and every one that begins later."""
        self._closing = True
        self.wake()

    async def stored(self, query: EventQuery) -> AsyncGenerator[list[Event], None]:
        """Yield what is stored now, some at a time.

        Raises:
            StorageUnavailable: the store can't be read now.
        """
        end = await self._storage.event_tail(0, EventFilter())
        after = await self._begin(query)
        while after < end:
            page = await self._storage.events(after, _PAGE_EVENTS, query.wanted)
            if page.last_id == after:
                return
            after = page.last_id
            yield [event for event in page.events if event.id <= end]

    async def follow(self, query: EventQuery, heartbeat_s: float) -> AsyncGenerator[list[Event], None]:
        """Yield what is stored, then what comes, without end.

        While the store can't be read, it is asked again and again: whoever follows keeps the connection.

        Yields:
            Events in order, some at a time; none when nothing came for `heartbeat_s`.

        Raises:
            FollowInterrupted: the daemon is shutting down.
        """
        after: int | None = None
        quiet_since = time.monotonic()
        while True:
            seen = self._commits  # before the read: what is committed after this is found by the next round
            if self._closing:
                raise FollowInterrupted
            left_s = quiet_since + heartbeat_s - time.monotonic()
            try:
                async with asyncio.timeout(max(left_s, _LEAST_READ_S)):
                    if after is None:
                        after = await self._begin(query)
                    page = await self._storage.events(after, _PAGE_EVENTS, query.wanted)
            except TimeoutError:
                pass
            except StorageUnavailable:
                await asyncio.sleep(_READ_AGAIN_S)
            else:
                moved, after = page.last_id > after, page.last_id
                if page.events:
                    yield page.events
                    quiet_since = time.monotonic()
                if not moved:
                    await self.wait(
                        lambda: self._commits != seen or self._closing,  # noqa: B023 - awaited at once
                        max(0.0, quiet_since + heartbeat_s - time.monotonic()),
                    )
            if time.monotonic() >= quiet_since + heartbeat_s:
                yield []
                quiet_since = time.monotonic()

    async def _begin(self, query: EventQuery) -> int:
        if query.tail is None:
            return query.after
        return max(query.after, await self._storage.event_tail(query.tail, query.wanted))

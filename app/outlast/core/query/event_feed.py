"""Following events: a cursor over the stored events, woken by commits."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from outlast.core.condition import Condition
from outlast.core.query.follow import follow
from outlast.model.event import Event, EventFilter, EventGap, EventPage
from outlast.model.output import Chunk
from outlast.storage import Change, CompleteOutput, Storage, TrimOutput

_PAGE_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events to read. Conditions combine.

    Attributes:
        wanted: conditions on each event.
        after: only events with a greater id.
        tail: of the events that are stored when the reading begins, only the last `tail`; and all that come later.
    """

    wanted: EventFilter
    after: int = 0
    tail: int | None = None


class EventFeed(Condition):
    """The events of all processes, for any number of followers.

    Attributes:
        commits: number of commits that have brought events.
        followers: number of followers.
        is_interrupted: whether the daemon is stopping.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage
        self.commits = 0
        self.followers = 0
        self.is_interrupted = False

    def on_committed(self, changes: Sequence[Change]) -> None:
        """Wake the followers if a commit has brought events. Output alone brings none."""
        if not all(isinstance(change, Chunk | CompleteOutput | TrimOutput) for change in changes):
            self.commits += 1
            self.wake()

    def interrupt(self) -> None:
        """End every `follow`, now and later, with `FollowInterrupted`."""
        self.is_interrupted = True
        self.wake()

    async def stored(self, query: EventQuery) -> AsyncGenerator[Sequence[Event | EventGap], None]:
        """Yield the events that are stored now, some at a time.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        end = await self._storage.event_tail(0, EventFilter())
        after = await _first_position(self._storage, query)
        while after < end:
            page = await self._storage.events(after, _PAGE_EVENTS, query.wanted)
            if page.last_id == after:
                return
            events = _with_gap(page, after)
            after = page.last_id
            yield [event for event in events if event.id <= end]

    async def follow(
        self, query: EventQuery, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Event | EventGap] | None, None]:
        """Yield the events that are stored, then those that come, without end. See `outlast.core.query.follow`."""
        self.followers += 1
        try:
            async with contextlib.aclosing(follow(_EventReader(self, self._storage, query), heartbeat_s)) as pages:
                async for events in pages:
                    yield events
        finally:
            self.followers -= 1


class _EventReader:
    """A position in the events: see `outlast.core.query.follow.Reader`."""

    def __init__(self, feed: EventFeed, storage: Storage, query: EventQuery) -> None:
        self._feed = feed
        self._storage = storage
        self._query = query
        self._after: int | None = None
        self._commits = 0

    @property
    def is_interrupted(self) -> bool:
        return self._feed.is_interrupted

    def mark(self) -> None:
        self._commits = self._feed.commits

    def read_cached(self) -> None:
        return None

    async def read(self) -> Sequence[Event | EventGap]:
        if self._after is None:
            self._after = await _first_position(self._storage, self._query)
        while True:
            page = await self._storage.events(self._after, _PAGE_EVENTS, self._query.wanted)
            events = _with_gap(page, self._after)
            has_moved, self._after = page.last_id > self._after, max(page.last_id, page.trimmed_to)
            if events or not has_moved:
                return events

    def is_over(self) -> bool:
        return False

    async def wait(self, timeout_s: float) -> None:
        feed = self._feed
        await feed.wait(lambda: feed.commits != self._commits or feed.is_interrupted, timeout_s)


def _with_gap(page: EventPage, after: int) -> Sequence[Event | EventGap]:
    """Return the events of a page, behind a gap if some between them and `after` were deleted because they were old."""
    if page.trimmed_to <= after:
        return page.events
    return [EventGap(first_id=after + 1, id=page.trimmed_to), *page.events]


async def _first_position(storage: Storage, query: EventQuery) -> int:
    """Return the id after which the events of a query begin."""
    if query.tail is None:
        return query.after
    return max(query.after, await storage.event_tail(query.tail, query.wanted))

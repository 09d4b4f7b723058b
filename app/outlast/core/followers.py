"""The followers of output: each reads what is stored, then what comes, until the end or until the daemon stops."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from outlast.core.output.committer import Committer
from outlast.core.query.event_feed import EventFeed
from outlast.core.query.follow import FollowInterrupted, follow
from outlast.core.query.group import GroupQuery, GroupReader, Item, first_position
from outlast.core.query.group_position import GroupPosition
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.model.output import Chunk
from outlast.model.process import Process
from outlast.storage import Storage


class Followers:
    """The followers of one daemon. `len` tells how many there are now.

    Attributes:
        is_interrupted: whether the daemon is stopping: streams that end now can be continued at the next daemon.
    """

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        events: EventFeed,
        find: Callable[[str], Awaitable[Process]],
        open_cursor: Callable[[Process, OutputQuery], Cursor],
    ) -> None:
        """Make the followers of a daemon.

        Args:
            storage: the store.
            committer: commits output soon while it is followed.
            events: tell which processes start.
            find: finds a process by what clients call it.
            open_cursor: makes a reader of a process's output.
        """
        self._storage = storage
        self._committer = committer
        self._events = events
        self._find = find
        self._open_cursor = open_cursor
        self._readers: set[Cursor | GroupReader] = set()
        self.is_interrupted = False

    def __len__(self) -> int:
        return len(self._readers)

    def interrupt(self) -> None:
        """End every stream, now and later, with `FollowInterrupted`."""
        self.is_interrupted = True
        for reader in tuple(self._readers):
            reader.interrupt()

    async def follow(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float, is_watched: bool = True
    ) -> AsyncGenerator[Sequence[Chunk] | None, None]:
        """Yield the output that is stored, then what comes, to the end. See `outlast.core.query.follow`.

        `is_watched`: whether a client sees the output, so that it is stored soon (`Committer.watching`).
        """
        cursor = self._open_cursor(process, query)
        if self.is_interrupted:
            raise FollowInterrupted
        self._readers.add(cursor)
        try:
            with self._committer.watching(process.handle) if is_watched else contextlib.nullcontext():
                async with contextlib.aclosing(cursor.follow(heartbeat_s)) as batches:
                    async for chunks in batches:
                        yield chunks
                        del chunks  # it would be kept in memory until the next chunks come, perhaps for hours
        finally:
            self._readers.discard(cursor)

    async def follow_chunks(
        self, process: Process, query: OutputQuery, *, heartbeat_s: float, is_watched: bool = True
    ) -> AsyncGenerator[Chunk | None, None]:
        """Follow like `follow`, chunk by chunk; yield None where that yields no chunks."""
        following = self.follow(process, query, heartbeat_s=heartbeat_s, is_watched=is_watched)
        async with contextlib.aclosing(following) as batches:
            async for chunks in batches:
                for chunk in chunks or (None,):
                    yield chunk

    async def open_group(self, query: GroupQuery) -> GroupPosition:
        """Return where the following of a group begins. See `outlast.core.query.group.first_position`."""
        return await first_position(self._storage, self._find, query)

    async def follow_group(
        self, query: GroupQuery, position: GroupPosition, *, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Item] | None, None]:
        """Yield what a group prints after `position`. See `GroupReader` and `outlast.core.query.follow`."""
        reader = GroupReader(
            self._storage,
            self._events,
            query,
            position,
            open_reader=self._open_cursor,
            watching=self._committer.watching,
        )
        if self.is_interrupted:
            raise FollowInterrupted
        self._readers.add(reader)
        try:
            async with contextlib.aclosing(follow(reader, heartbeat_s)) as batches:
                async for items in batches:
                    yield items
                    del items  # as in `follow`
        finally:
            self._readers.discard(reader)
            reader.close()

    async def is_over(self, process: Process, query: OutputQuery) -> bool:
        """Return whether nothing of a process's output is left to follow, now or later.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """
        cursor = self._open_cursor(process, query)
        cursor.mark()
        return not await cursor.read() and cursor.is_over()

"""Following the output of several processes in one stream, in the order in which it was read from them.

Each member is read by a reader of its own, as if it were followed alone; `GroupReader` is a reader over these. A member
that has nothing new is not looked at until its own wait is over, so the cost is that of the members that print.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from outlast.core.query.event_feed import EventFeed
from outlast.core.query.follow import Reader
from outlast.core.query.group_position import GroupPosition
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import InvalidRequest
from outlast.model.output import Chunk, Stream
from outlast.model.process import Order, Process, ProcessQuery
from outlast.storage import Storage

MAX_MEMBERS = 100
"""Maximum number of processes that are followed at a time in one stream: each event's id names all of them."""

_BATCH_BYTES = 256 << 10
_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupQuery:
    """Which output of a group to follow.

    Attributes:
        refs: the processes, by pid, id, name or handle.
        tags: not empty: also the processes that have all of these tags, and those that start later.
        tail: of each process, only the last `tail` lines that are stored when it is first read.
        since_ms: only lines read from the process at this time or later.
        stream: only this stream; None means both.
    """

    refs: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    tail: int | None = None
    since_ms: int | None = None
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Processes are followed from now on."""

    processes: Sequence[Process]


@dataclass(frozen=True, slots=True)
class Printed:
    """A process has printed something."""

    process: Process
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Left:
    """A process has ended for good, and all of its output was read; or it was purged.

    `process`: as it was when it joined; None: it was purged before.
    """

    handle: int
    process: Process | None


Item = Joined | Printed | Left


async def first_position(
    storage: Storage, find: Callable[[str], Awaitable[Process]], query: GroupQuery
) -> GroupPosition:
    """Return where the following of a group begins: its members are those named, and those with the tags that run.

    A process with the tags that waits for its next run, or whose children still print, is a member, too.

    Args:
        storage: the store.
        find: returns the process that a reference names.
        query: which output to follow.

    Raises:
        NotFound: a reference names no process.
        InvalidRequest: these are more than `MAX_MEMBERS` processes.
        StorageUnavailable: the store cannot be read now.
    """
    handles = {(await find(ref)).handle for ref in query.refs}
    bound = max(handles, default=0)
    if query.tags:
        newest = await storage.processes(ProcessQuery(limit=1))  # before the others: what starts later joins
        bound = max(bound, *(process.handle for process in newest), 0)
        lively = [item.process for item in await storage.unfinished()] + await storage.supervised()
        handles |= {
            process.handle
            for process in lively
            if process.handle <= bound and query.tags.items() <= process.spec.tags.items()
        }
    check_size(handles)
    tail, stream = query.tail, query.stream
    starts = {it: 0 if tail is None else await storage.tail(it, tail, stream=stream) for it in sorted(handles)}
    return GroupPosition(starts, bound)


def check_size(handles: Sized) -> None:
    """Check that a group is not too large.

    Raises:
        InvalidRequest: it has more than `MAX_MEMBERS` members.
    """
    if len(handles) > MAX_MEMBERS:
        raise InvalidRequest(
            f"process and tag select {len(handles)} processes: one stream follows at most {MAX_MEMBERS}; name "
            "fewer, or add a tag"
        )


class _Member:
    """A process of the group. It waits, or is to be read, or has chunks that were read and are still to be sent."""

    def __init__(self, process: Process, reader: Reader[Chunk], seq: int) -> None:
        self.process = process
        self.reader = reader
        self.seq = seq
        self.chunks: deque[Chunk] = deque()
        self.waiting: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self.waiting is not None

    async def fill(self) -> bool:
        """Read what comes next, unless something is there already. Return whether there is something now."""
        if not self.chunks:
            found = self.reader.read_cached()
            self.chunks.extend(await self.reader.read() if found is None else found)
        return bool(self.chunks)

    def take(self) -> Chunk:
        chunk = self.chunks.popleft()
        self.seq = chunk.last_seq
        return chunk


class GroupReader:
    """A position in the output of a group: see `outlast.core.query.follow.Reader`. Its first item is a `Joined`."""

    def __init__(
        self,
        storage: Storage,
        feed: EventFeed,
        query: GroupQuery,
        position: GroupPosition,
        *,
        open_reader: Callable[[Process, OutputQuery], Reader[Chunk]],
        watching: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        """Prepare to read.

        Args:
            storage: the store.
            feed: tells of processes that start.
            query: which output to read.
            position: how far it was read.
            open_reader: returns the reader of one process.
            watching: context in which one process's output is stored without delay, by its handle.
        """
        self._storage = storage
        self._feed = feed
        self._query = query
        self._unopened: Mapping[int, int] | None = position.seqs
        self._bound = max(position.bound, *position.seqs, 0)
        self._open_reader = open_reader
        self._watching = watching
        self._watches: dict[int, contextlib.ExitStack] = {}
        self._members: dict[int, _Member] = {}
        self._items: list[Item] = []
        self._news = asyncio.Event()
        self._starts_seen = -1
        self._starts_waiting: asyncio.Task[None] | None = None
        self.is_interrupted = False

    def interrupt(self) -> None:
        """End `follow` with `FollowInterrupted` at its next step."""
        self.is_interrupted = True
        self._news.set()

    def close(self) -> None:
        """End all waits."""
        for member in self._members.values():
            if member.waiting is not None:
                member.waiting.cancel()
        if self._starts_waiting is not None:
            self._starts_waiting.cancel()
        for watch in self._watches.values():
            watch.close()

    def mark(self) -> None:
        """See `Reader`."""
        self._news.clear()
        if self._starts_waiting is None or self._starts_waiting.done():
            self._starts_waiting = None
            self._starts_seen = self._feed.commits
        for member in self._members.values():
            if member.waiting is None or member.waiting.done():
                member.waiting = None
                member.reader.mark()

    def read_cached(self) -> None:
        """See `Reader`."""
        return

    async def read(self) -> Sequence[Item]:
        """See `Reader`."""
        # What a cancelled read has found stays in `_items` and with the members.
        if self._unopened is not None:
            await self._open_members(self._unopened)
        if self._query.tags and self._starts_waiting is None:
            await self._add_started()
        for member in list(self._members.values()):
            if not member.is_idle and not await member.fill():
                self._settle(member)
        self._merge()
        items, self._items = self._items, []
        return items

    def is_over(self) -> bool:
        """See `Reader`."""
        return not self._members and not self._query.tags

    async def wait(self, timeout_s: float) -> None:
        """See `Reader`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    async def _open_members(self, seqs: Mapping[int, int]) -> None:
        found = {handle: await self._storage.process(handle) for handle in sorted(seqs)}
        self._unopened = None
        self._items.append(Joined([process for process in found.values() if process is not None]))
        for handle, process in found.items():
            if process is None:
                self._items.append(Left(handle, None))
            else:
                self._add(process, seqs[handle])

    async def _add_started(self) -> None:
        """Add the processes that have started since the last look, as many as there is room for."""
        room = MAX_MEMBERS - len(self._members)
        query = ProcessQuery(tags=self._query.tags, after_handle=self._bound, order=Order.OLDEST, limit=room)
        started = await self._storage.processes(query) if room > 0 else []
        for process in started:
            self._bound = process.handle
            self._add(process, 0)
        if started:
            self._items.append(Joined(started))
        elif room > 0:
            self._starts_waiting = self._wait_for(self._wait_for_start(self._starts_seen))

    async def _wait_for_start(self, seen: int) -> None:
        feed = self._feed
        await feed.wait(lambda: feed.commits != seen)

    def _add(self, process: Process, seq: int) -> None:
        watch = self._watches[process.handle] = contextlib.ExitStack()
        watch.enter_context(self._watching(process.handle))
        member = self._members[process.handle] = _Member(process, self._reader(process, seq), seq)
        member.reader.mark()

    def _reader(self, process: Process, seq: int) -> Reader[Chunk]:
        query = OutputQuery(after=seq, since_ms=self._query.since_ms, stream=self._query.stream)
        return self._open_reader(process, query)

    def _settle(self, member: _Member) -> None:
        """Let a member wait that has nothing to read, or remove it if nothing can come."""
        if not member.reader.is_over():
            member.waiting = self._wait_for(member.reader.wait(_WAIT_S))
            return
        # A managed process that has just started may have been taken for a single run of it.
        again = self._reader(member.process, member.seq)
        again.mark()
        if not again.is_over():
            member.reader = again
            self._news.set()
            return
        handle = member.process.handle
        del self._members[handle]
        self._watches.pop(handle).close()
        self._items.append(Left(handle, member.process))

    def _wait_for(self, waiting: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(waiting)
        task.add_done_callback(lambda _: self._news.set())
        return task

    def _merge(self) -> None:
        """Move what the members have read to the items, the oldest first.

        It ends when one of them has to be read on: what it has next may be older than what the others have.
        """
        size = 0
        while size < _BATCH_BYTES:
            ready = [member for member in self._members.values() if member.chunks]
            if not ready:
                return
            first = min(ready, key=lambda member: member.chunks[0].ts_ms)
            taken: list[Chunk] = []
            others_ms = min((it.chunks[0].ts_ms for it in ready if it is not first), default=None)
            while first.chunks and size < _BATCH_BYTES and (others_ms is None or first.chunks[0].ts_ms <= others_ms):
                taken.append(first.take())
                size += len(taken[-1].data)
            self._items.append(Printed(first.process, taken))
            if not first.chunks:
                return

"""The cursor: a follower gets every line once and ends, whatever is committed at whatever moment."""

import asyncio
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.core.supervision.live_process import LiveProcess
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import ProcessSpec, Run
from outlast.shimlink import HeldProcess
from outlast.storage import AddProcess, Storage, storage_from_url
from outlast.testing.storage.samples import Output

STREAMS = st.sampled_from(Stream)


class Process:
    """A process that prints, whose commits happen exactly when the test says.

    `is_cached`: followers see its lines before they are stored. Otherwise its lines are evicted as soon as they are.
    """

    def __init__(self, storage: Storage, *, is_cached: bool) -> None:
        spec = ProcessSpec(id="01ARZ3NDEKTSV4RRFFQ69G5FAV", command="x", working_dir="/")
        held = HeldProcess(pid=1, started_at_ms=0, group=None, pidfd=None, stdin=None, streams={})
        self.live = LiveProcess(spec, Run(pid=1, started_at_ms=0), 1, held)
        self.chunk_cache = ChunkCache()
        self.written: list[tuple[int, Stream]] = []
        self._storage = storage
        self._is_cached = is_cached
        self._unstored: deque[Chunk] = deque()

    async def record(self) -> None:
        handles = await self._storage.commit([AddProcess(self.live.spec, self.live.run)])
        self.live.handle = handles[self.live.spec.id]
        self._output = Output(self.live.handle)

    async def write(self, stream: Stream, lines: int) -> None:
        """Print `lines` lines; 0 stands for a gap."""
        first = len(self.written) + 1
        data = b"".join(b"%d\n" % (first + i) for i in range(lines))
        chunk = self._output.chunk(data, stream, ts_ms=first) if lines else self._output.gap(9, stream, ts_ms=first)
        self.written += [(seq, stream) for seq in range(first, chunk.last_seq + 1)]
        self._unstored.append(chunk)
        if not self._is_cached:
            await self.store()
        # As RunRecorder does.
        self.live.last_seq = chunk.last_seq
        if self._is_cached:
            self.chunk_cache.append_chunk(chunk)
        self.live.wake()

    async def store(self) -> None:
        """Store the next chunk that is not stored."""
        if self._unstored:
            chunk = self._unstored.popleft()
            await self._storage.commit([chunk])
            self.live.position = self.live.position.after(chunk)
            self.chunk_cache.note_stored(chunk.handle)

    def evict_stored(self) -> None:
        """Evict what is stored, as when other processes print much."""
        self.chunk_cache._evict_stored(self.live.handle)

    async def finish(self) -> None:
        while self._unstored:
            await self.store()
        self.live.finished = True
        self.live.wake()


class RacingStorage:
    """A storage that runs something after each read, before the reader gets the result: the worst moment."""

    def __init__(self, storage: Storage, race: Callable[[], "asyncio.Future[None] | None"]) -> None:
        self._storage = storage
        self._race = race
        self.tail = storage.tail

    async def chunks(self, query: ChunkQuery) -> list[Chunk]:
        found = await self._storage.chunks(query)
        racing = self._race()
        if racing is not None:
            await racing
        return found


async def follow(
    actions: list[tuple[Stream, int] | None], before: int, wanted: Stream | None, after: int, *, is_cached: bool
) -> None:
    storage = storage_from_url("memory:")
    await storage.open()
    process = Process(storage, is_cached=is_cached)
    await process.record()
    pending = list(actions)

    async def act() -> None:
        action = pending.pop(0)
        if action is None:
            await process.store()
            process.evict_stored()
        else:
            await process.write(*action)

    for _ in range(min(before, len(pending))):
        await act()

    def race() -> "asyncio.Future[None] | None":
        return asyncio.ensure_future(act() if pending else process.finish())

    racing = RacingStorage(storage, race)
    query = OutputQuery(stream=wanted, after=after)
    cursor = Cursor(racing, process.chunk_cache, process.live.handle, process.live, query)  # type: ignore[arg-type]
    got: list[int] = []

    async def read() -> None:
        async for chunks in cursor.follow(heartbeat_s=0.001):
            if not chunks:
                # The cursor waits, and no more reads race with commits, so the process continues by itself.
                await (act() if pending else process.finish())
                continue
            got.extend(seq for chunk in chunks for seq in seqs_of(chunk))

    await asyncio.wait_for(read(), 10)
    assert got == [seq for seq, stream in process.written if seq > after and wanted in {None, stream}]
    assert not pending
    await storage.close()


def seqs_of(chunk: Chunk) -> list[int]:
    """Return the chunk's sequence numbers, which are also its lines."""
    seqs = list(range(chunk.first_seq, chunk.last_seq + 1))
    assert [int(line) for line in chunk.lines()] == ([] if chunk.gap else seqs)
    return seqs


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.one_of(st.none(), st.tuples(STREAMS, st.integers(0, 4))), max_size=12),
    st.integers(0, 10),
    st.one_of(st.none(), STREAMS),
    st.integers(0, 12),
    st.booleans(),
)
def test_every_line_comes_once_under_any_schedule(
    actions: list[tuple[Stream, int] | None], before: int, wanted: Stream | None, after: int, is_cached: bool
) -> None:
    asyncio.run(follow(actions, before, wanted, after, is_cached=is_cached))


async def test_a_commit_after_an_empty_read_is_not_missed() -> None:
    await follow([(Stream.STDOUT, 1), (Stream.STDOUT, 2)], 0, None, 0, is_cached=False)


async def test_an_end_after_the_last_read_does_not_hide_lines_before_it() -> None:
    """The last lines and the end are both committed after an empty read, before the reader sees its result."""
    storage = storage_from_url("memory:")
    await storage.open()
    process = Process(storage, is_cached=False)
    await process.record()
    pending = [True]

    async def write_and_finish() -> None:
        await process.write(Stream.STDOUT, 1)
        await process.finish()

    def race() -> "asyncio.Future[None] | None":
        return asyncio.ensure_future(write_and_finish()) if pending and pending.pop() else None

    cursor = Cursor(RacingStorage(storage, race), process.chunk_cache, 1, process.live, OutputQuery())  # type: ignore[arg-type]
    got = [chunk.first_seq async for chunks in cursor.follow(heartbeat_s=10) for chunk in chunks or ()]
    assert got == [1]


async def test_a_heartbeat_comes_although_the_other_stream_is_busy() -> None:
    storage = storage_from_url("memory:")
    await storage.open()
    process = Process(storage, is_cached=True)
    await process.record()
    cursor = Cursor(storage, process.chunk_cache, process.live.handle, process.live, OutputQuery(stream=Stream.STDOUT))

    async def busy() -> None:
        while True:
            await process.write(Stream.STDERR, 1)
            await asyncio.sleep(0)

    writer = asyncio.create_task(busy())
    try:
        assert await asyncio.wait_for(anext(cursor.follow(heartbeat_s=0.05)), 10) in ([], ())
    finally:
        writer.cancel()


async def test_an_interrupt_ends_a_waiting_follower() -> None:
    storage = storage_from_url("memory:")
    await storage.open()
    process = Process(storage, is_cached=True)
    await process.record()
    cursor = Cursor(storage, process.chunk_cache, process.live.handle, process.live, OutputQuery())
    waiting = asyncio.ensure_future(anext(cursor.follow(heartbeat_s=60)))
    await asyncio.sleep(0)
    cursor.interrupt()
    with pytest.raises(FollowInterrupted):
        await asyncio.wait_for(waiting, 10)


async def recorded() -> tuple[Storage, Process]:
    storage = storage_from_url("memory:")
    await storage.open()
    process = Process(storage, is_cached=True)
    await process.record()
    return storage, process


async def test_what_is_not_stored_does_not_wait_behind_what_is_not_wanted() -> None:
    storage, process = await recorded()
    await process.write(Stream.STDOUT, 1)
    await process.store()
    process.evict_stored()
    await process.write(Stream.STDERR, 1)
    cursor = Cursor(storage, process.chunk_cache, process.live.handle, process.live, OutputQuery(stream=Stream.STDERR))
    found = await asyncio.wait_for(anext(cursor.follow(heartbeat_s=60)), 10)
    assert [chunk.first_seq for chunk in found or ()] == [2]


async def test_lines_that_the_store_has_rejected_come_to_who_had_not_seen_them() -> None:
    storage, process = await recorded()
    await process.write(Stream.STDOUT, 1)
    chunks = process.chunk_cache.read_chunks(process.live.handle, after_seq=0, max_bytes=1) or []
    cursor = Cursor(storage, process.chunk_cache, process.live.handle, process.live, OutputQuery())
    cursor.mark()
    process.chunk_cache.drop_unstored(process.live.handle)
    process.live.last_seq = 0
    assert not await cursor.read()
    await cursor.wait(0)
    process.chunk_cache.append_chunk(chunks[0])
    process.live.last_seq = 1
    cursor.mark()
    assert cursor.read_cached() == chunks


async def test_stored_output_is_what_is_stored() -> None:
    storage, process = await recorded()
    await process.write(Stream.STDOUT, 1)
    await process.store()
    await process.write(Stream.STDOUT, 1)
    cursor = Cursor(storage, process.chunk_cache, process.live.handle, process.live, OutputQuery())
    assert [chunk.first_seq async for chunk in cursor.stored()] == [1]

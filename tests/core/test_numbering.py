"""A number that a follower has seen means the same line for ever, whichever of daemon and shim dies in which order."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlast.core.output import capture as capture_module
from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.supervision import live_process as live_process_module
from outlast.core.supervision.live_process import LiveProcess, RunRecorder
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import ProcessSpec, Run
from outlast.shim.state import child as child_module
from outlast.shim.state import quota
from outlast.shim.state.buffer import StreamBuffer, memory_segment
from outlast.shim.state.child import Child
from outlast.shim.state.handover import describe, dump_state, load_state, restore
from outlast.shim.state.quota import BufferUsage
from outlast.shimlink import HeldProcess
from outlast.storage import Change, Storage, storage_from_url
from outlast.testing.storage.samples import added

SPEC = ProcessSpec(id="01ARZ3NDEKTSV4RRFFQ69G5FAV", command="x", working_dir="/")
EVERYTHING_BYTES = 1 << 20
RECORD = {"id": SPEC.id}


class Queue:
    """A committer that stores when it is told to."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._entries: list[tuple[Chunk, Callable[[int], None]]] = []

    def submit(self, change: Change, on_stored: Callable[[int], None], *, is_awaited: bool = False) -> None:  # noqa: ARG002
        assert isinstance(change, Chunk)
        self._entries.append((change, on_stored))

    def flush_now(self) -> None:
        pass

    async def store(self, count: int) -> None:
        done, self._entries = self._entries[:count], self._entries[count:]
        await self._storage.commit([change for change, _ in done])
        for _, on_stored in done:
            on_stored(0)


class World:
    """A process with two streams, its shim, its daemon, the store, and a follower that misses nothing.

    Attributes:
        seen: by number, each line that the follower has seen, with its stream and its time.
    """

    def __init__(self, storage: Storage, handle: int) -> None:
        self.seen: dict[int, tuple[Stream, int, bytes]] = {}
        self._storage = storage
        self._handle = handle
        self._usage = BufferUsage()
        self._child = Child(1, RECORD, None, self._usage)
        self._pipes: dict[Stream, int] = {}
        for stream in Stream:
            reader, self._pipes[stream] = os.pipe()
            os.set_blocking(reader, False)
            self._child.streams[stream] = StreamBuffer(reader, [memory_segment(0)])

    async def start_daemon(self) -> None:
        position = await self._storage.position(self._handle)
        description, fds = describe(self._child)
        held = HeldProcess.from_description(description, [os.dup(fd) for fd in fds])
        self._live = LiveProcess(SPEC, Run(pid=1, started_at_ms=0), 1, held)
        self._cache, self._queue = ChunkCache(), Queue(self._storage)
        self._recorder = RunRecorder(
            self._live,
            self._handle,
            position,
            committer=self._queue,  # type: ignore[arg-type]
            chunk_cache=self._cache,
            on_finished=lambda _live: None,
        )
        self._live.on_recorded(self._handle, position, self._recorder)
        self._began_seq = position.last_seq
        self._attach()

    def _attach(self) -> None:
        self._child.attach(self._live.position.stdout_end, self._live.position.stderr_end)

    # ---- steps

    def write(self, stream: Stream, data: bytes) -> None:
        if stream in self._pipes:
            os.write(self._pipes[stream], data)

    def close(self, stream: Stream) -> None:
        if stream in self._pipes:
            os.close(self._pipes.pop(stream))

    def read(self, stream: Stream) -> None:
        buffer = self._child.streams[stream]
        if buffer.pipe is not None and self._child.read_stream(stream) == 0:
            os.close(buffer.pipe)
            buffer.pipe = None

    def print(self, stream: Stream, data: bytes) -> None:
        self.write(stream, data)
        self.read(stream)

    def send(self) -> None:
        if (frame := self._child.next_frame()) is not None:
            self._recorder.on_output(Stream(frame.stream), frame.ts_ms, frame.offset, frame.size)

    def wait_for_rest(self) -> None:
        """Let the time of unfinished lines be up."""
        for _ in range(2):
            self._recorder._capture._on_timer()

    async def store(self) -> None:
        await self._queue.store(1)

    def acknowledge(self) -> None:
        self._child.acknowledge(self._live.position.stdout_end, self._live.position.stderr_end)

    async def kill_daemon(self) -> None:
        self._stop_daemon()
        self._child.detach()
        await self.start_daemon()

    def kill_shim(self) -> None:
        description, fds = self._live.held.describe(None)
        self._replace_shim(lambda: restore(1, RECORD, description, [os.dup(fd) for fd in fds], self._usage))

    def upgrade_shim(self) -> None:
        self._child.detach()
        state, fds = dump_state(self._child)
        as_read = json.loads(json.dumps(state))
        self._replace_shim(lambda: load_state(as_read, [os.dup(fd) for fd in fds], self._usage))

    def _replace_shim(self, make: Callable[[], Child]) -> None:
        before, self._usage = self._child, BufferUsage()
        self._child = make()
        _close(before)
        self._attach()

    # ---- the follower

    def follow(self) -> None:
        chunks = self._cache.read_chunks(self._handle, after_seq=self._began_seq, max_bytes=EVERYTHING_BYTES)
        for chunk in chunks or ():
            for seq, line in enumerate(chunk.lines(), start=chunk.first_seq):
                shown = (chunk.stream, chunk.ts_ms, line)
                assert self.seen.setdefault(seq, shown) == shown, f"number {seq} was {self.seen[seq]}, and is {shown}"

    async def finish(self) -> None:
        for stream in Stream:
            self.close(stream)
            self.read(stream)
            self.read(stream)
        while self._child.unsent:
            self.send()
        await self._queue.store(EVERYTHING_BYTES)
        self.follow()
        self._stop_daemon()
        _close(self._child)

    def _stop_daemon(self) -> None:
        self._recorder.stop()
        self._live.held.close()


def _close(child: Child) -> None:
    for buffer in child.streams.values():
        buffer.close()
        if buffer.pipe is not None:
            os.close(buffer.pipe)


OUT, ERR = Stream
DATA = st.sampled_from([b"a", b"b\n", b"c\nd"])
STEPS = st.one_of(
    st.tuples(st.just("print"), st.sampled_from(Stream), DATA),
    st.tuples(st.just("write"), st.sampled_from(Stream), DATA),
    st.tuples(st.sampled_from(["read", "close"]), st.sampled_from(Stream)),
    st.just(("send",)),
    st.tuples(st.sampled_from(["wait_for_rest", "store", "acknowledge"])),
    st.tuples(st.sampled_from(["kill_daemon", "kill_shim", "upgrade_shim"])),
)
CUT_AGAIN = [("print", OUT, b"a"), ("send",), ("print", OUT, b"b\n"), ("send",), ("kill_daemon",), ("send",)]
PART = [("print", OUT, b"a"), ("send",), ("wait_for_rest",)]
LAST = [("print", OUT, b"a"), ("close", OUT), ("read", OUT), ("send",), ("send",), ("print", ERR, b"b\n"), ("send",)]
GROWN = [
    *(("print", OUT, b"a\n"), ("send",), ("print", ERR, b"b\n"), ("send",), ("kill_daemon",)),
    *(("print", OUT, b"c\n"), ("send",), ("send",), ("send",)),
]
DESCRIBED = [
    *(("print", OUT, b"a\n"), ("print", ERR, b"b\n"), ("kill_daemon",)),
    *(("print", OUT, b"c\n"), ("send",), ("send",), ("send",), ("kill_shim",), ("kill_daemon",)),
    *(("send",), ("send",), ("send",)),
]


@contextmanager
def hard_times() -> Iterator[None]:
    """Let unfinished lines wait for no time, each read have a time of its own, and frames be joined as under load."""
    clock = iter(range(1, 1_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_module, "PARTIAL_LINE_S", 0.0)
        patch.setattr(quota, "EXACT_FRAMES", 1)
        patch.setattr(child_module, "now_ms", lambda: next(clock))
        yield


async def check(steps: list[tuple[object, ...]]) -> None:
    storage = storage_from_url("memory:")
    await storage.open()
    world = World(storage, await added(storage))
    await world.start_daemon()
    for name, *arguments in steps:
        result = getattr(world, str(name))(*arguments)
        if result is not None:
            await result
        world.follow()
    await world.finish()
    stored = await storage.chunks(ChunkQuery(handle=world._handle, max_bytes=EVERYTHING_BYTES))
    lines = [(chunk.first_seq + n, line) for chunk in stored for n, line in enumerate(chunk.lines())]
    assert {seq: line for seq, (_, _, line) in world.seen.items()} == dict(lines)
    await storage.close()


@settings(deadline=None, max_examples=400)
@given(st.lists(STEPS, max_size=60))
@example([*CUT_AGAIN, ("wait_for_rest",), ("store",)])
@example([*PART, ("kill_daemon",), ("print", OUT, b"b\n"), ("send",), ("send",)])
@example([*LAST, ("kill_daemon",), ("send",), ("send",), ("send",)])
@example(GROWN)
@example(DESCRIBED)
def test_a_number_means_one_line_whatever_dies(steps: list[tuple[object, ...]]) -> None:
    with hard_times():
        asyncio.run(check(steps))


async def test_no_more_numbers_are_seen_ahead_of_the_store_than_a_gap_passes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_process_module, "MAX_UNSTORED_LINES", 2)
    storage = storage_from_url("memory:")
    await storage.open()
    world = World(storage, await added(storage))
    await world.start_daemon()
    seen = []
    for number in range(4):
        world.print(OUT, b"%d\n" % number)
        world.send()
        world.follow()
        seen.append(len(world.seen))
    for _ in range(4):
        await world.store()
        world.follow()
        seen.append(len(world.seen))
    assert seen == [1, 2, 2, 2, 3, 4, 4, 4]
    await world.finish()

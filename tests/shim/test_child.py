"""One process in the shim: no output is lost or repeated if daemon or shim die, and its frames are bounded."""

import contextlib
import itertools
import json
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.model.output import Position, Stream
from outlast.shim.state import child as module
from outlast.shim.state.buffer import StreamBuffer, memory_segment, spool_segment
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDERR, STDOUT
from outlast.shim.state.handover import describe, dump_state, load_state, restore
from outlast.shim.state.quota import EXACT_FRAMES, BufferUsage
from outlast.shimlink import HeldProcess
from outlast.wire.contract import FRAME_OVERHEAD_BYTES, UNFINISHED_CHARACTER_BYTES
from outlast.wire.description import ProcessDescription

STREAMS = st.sampled_from([STDOUT, STDERR])
RECORD = {"id": "01"}


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def sent(description: ProcessDescription) -> ProcessDescription:
    """Return a description as the other end of a socket gets it."""
    return ProcessDescription.from_json(json.loads(json.dumps(description.to_json())))


def hold(child: Child) -> HeldProcess:
    """Return what a daemon holds that the shim has described a process to."""
    description, fds = describe(child)
    return HeldProcess.from_description(sent(description), [os.dup(fd) for fd in fds])


def hand_over(held: HeldProcess, usage: BufferUsage) -> Child:
    """Return the process in another shim, which a daemon has handed it over to."""
    description, fds = held.describe(None)
    return restore(2, RECORD, sent(description), [os.dup(fd) for fd in fds], usage)


def new_child(usage: BufferUsage) -> tuple[Child, dict[int, int]]:
    """Make a child without a real process, and the writing ends of its pipes."""
    child = Child(1, RECORD, None, usage)
    child.pid, child.started = 4711, True
    writers = {}
    for stream in (STDOUT, STDERR):
        reader, writers[stream] = pipe()
        child.streams[stream] = StreamBuffer(reader, [memory_segment(0)])
    return child, writers


def close_all(child: Child) -> None:
    for buffer in child.streams.values():
        if buffer.pipe is not None:
            os.close(buffer.pipe)
        buffer.close()


class Deaths(RuleBasedStateMachine):
    """A process writes, a shim reads, daemons connect and store; shim and daemon die at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.files = 0
        self.usage = BufferUsage()
        self.child, self.writers = new_child(self.usage)
        self.written = {STDOUT: b"", STDERR: b""}
        self.held: HeldProcess | None = None
        self.fed = {STDOUT: 0, STDERR: 0}
        self.ended: set[int] = set()
        self.received: deque[tuple[int, int]] = deque()
        self.stored = {STDOUT: 0, STDERR: 0}

    # ---- the process

    @rule(stream=STREAMS, size=st.integers(1, 9000))
    def write(self, stream: int, size: int) -> None:
        if stream in self.writers and len(self.written[stream]) - self.child.streams[stream].end < 40_000:
            data = os.urandom(size)
            os.write(self.writers[stream], data)
            self.written[stream] += data

    @rule(stream=STREAMS)
    def close(self, stream: int) -> None:
        if stream in self.writers and len(self.written[stream]) > 5_000:
            os.close(self.writers.pop(stream))

    # ---- the shim

    @rule(stream=STREAMS)
    def read(self, stream: int) -> None:
        buffer = self.child.streams[stream]
        if buffer.pipe is not None and self.child.read_stream(stream) == 0:
            os.close(buffer.pipe)
            buffer.pipe = None

    @precondition(lambda self: self.held is None)
    @rule(stream=STREAMS)
    def continue_on_disk(self, stream: int) -> None:
        buffer = self.child.streams[stream]
        if buffer.pipe is not None and not buffer.spools:
            self.files += 1
            buffer.append_segment(spool_segment(Path(self.folder.name) / str(self.files), buffer.end))

    @rule()
    def become_the_next_version(self) -> None:
        self.daemon_dies()
        state, fds = dump_state(self.child)
        usage = BufferUsage()
        child = load_state(json.loads(json.dumps(state)), fds, usage)
        assert (usage.memory_bytes, usage.spool_bytes) == (self.usage.memory_bytes, self.usage.spool_bytes)
        self.child, self.usage = child, usage

    @precondition(lambda self: self.held is not None)
    @rule()
    def shim_dies(self) -> None:
        assert self.held is not None
        old, self.usage = self.child, BufferUsage()
        self.child = hand_over(self.held, self.usage)
        close_all(old)
        self._attach()

    # ---- the daemon

    @rule()
    def daemon_comes(self) -> None:
        self.daemon_dies()
        for buffer in self.child.streams.values():
            if buffer.pipe is not None and buffer.spools:
                buffer.append_segment(memory_segment(buffer.end))
        self.held = hold(self.child)
        self._attach()

    def _attach(self) -> None:
        self.child.attach(self.stored[STDOUT], self.stored[STDERR])

    @rule()
    def daemon_dies(self) -> None:
        if self.held is not None:
            self.held.close()
            self.held = None
            self.child.detach()
        self.fed = dict(self.stored)
        self.received.clear()

    @precondition(lambda self: self.held is not None)
    @rule(count=st.integers(1, 6))
    def send(self, count: int) -> None:
        assert self.held is not None
        for _ in range(count):
            frame = self.child.next_frame()
            if frame is None:
                return
            stream = Stream(frame.stream)
            if not frame.size:
                self.held.on_end(stream, frame.ts_ms, frame.offset)
                assert stream not in self.writers
                assert self.fed[stream] == frame.offset == len(self.written[stream])
                self.ended.add(stream)
                continue
            data = self.held.read(stream, frame.ts_ms, frame.offset, frame.size)
            assert len(data) == frame.size
            assert frame.offset <= self.fed[stream], "output is missing"
            skipped = self.fed[stream] - frame.offset
            assert data[skipped:] == self.written[stream][frame.offset : frame.end][skipped:]
            self.fed[stream] = max(self.fed[stream], frame.end)
            self.received.append((stream, frame.end))

    @precondition(lambda self: bool(self.received))
    @rule(count=st.integers(1, 6), part=st.integers(0, 5000))
    def store(self, count: int, part: int) -> None:
        """Store received frames, perhaps without the last part: an unfinished line."""
        assert self.held is not None
        for left in reversed(range(count)):
            if not self.received:
                break
            stream, end = self.received[0]
            if left == 0 and part:
                self.stored[stream] = max(self.stored[stream], end - part)
            else:
                self.received.popleft()
                self.stored[stream] = max(self.stored[stream], end)
        self._acknowledge()

    @precondition(lambda self: bool(self.received))
    @rule(count=st.integers(1, 6), unfinished=st.integers(1, UNFINISHED_CHARACTER_BYTES))
    def store_without_unfinished_characters(self, count: int, unfinished: int) -> None:
        """Store received frames of both streams, but for the last bytes of each stream."""
        for stream, end in itertools.islice(self.received, count):
            self.stored[stream] = max(self.stored[stream], end - unfinished)
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge what is stored. No frame that is stored may wait behind an unfinished character."""
        assert self.held is not None
        self.held.acknowledge(Position(stdout_end=self.stored[STDOUT], stderr_end=self.stored[STDERR]))
        self.child.acknowledge(self.stored[STDOUT], self.stored[STDERR])
        for frames in (
            [(frame.stream, frame.end) for frame in self.child.unacked],
            [(int(stream), offset + size) for stream, _, offset, size in self.held.frames],
        ):
            left = [end - self.stored[stream] for stream, end in frames]
            free = itertools.takewhile(lambda count: count <= UNFINISHED_CHARACTER_BYTES, left)
            assert all(count > 0 for count in free)

    # ---- invariants

    @invariant()
    def the_daemon_sees_how_far_a_stream_is_written(self) -> None:
        if self.held is not None:
            for stream in Stream:
                assert self.held.written_to(stream) == len(self.written[stream])

    @invariant()
    def usage_is_counted(self) -> None:
        held = sum(frame.size for frame in (*self.child.unacked, *self.child.unsent))
        assert self.child.held_bytes == held
        frames = sum(1 for frame in (*self.child.unacked, *self.child.unsent) if frame.size)
        in_memory = self.usage.memory_bytes - frames * FRAME_OVERHEAD_BYTES
        assert self.child.memory_bytes == in_memory
        assert in_memory + self.usage.spool_bytes == held

    def teardown(self) -> None:
        for stream in tuple(self.writers):
            os.close(self.writers.pop(stream))
        while any(buffer.pipe is not None for buffer in self.child.streams.values()):
            for stream in (STDOUT, STDERR):
                self.read(stream)
        if self.held is None:
            self.daemon_comes()
        self.ended.clear()
        self._attach()
        while self.child.unsent:
            self.send(10)
        while self.received:
            self.store(10, 0)
        left = (self.child.held_bytes, self.usage.memory_bytes, self.usage.spool_bytes)
        stored, ended = self.stored, self.ended
        self.daemon_dies()
        close_all(self.child)
        self.folder.cleanup()
        assert stored == {stream: len(data) for stream, data in self.written.items()}
        assert ended == {STDOUT, STDERR}
        assert left == (0, 0, 0)


TestDeaths = Deaths.TestCase
TestDeaths.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


@contextlib.contextmanager
def made() -> Iterator[tuple[Child, dict[int, int]]]:
    child, writers = new_child(BufferUsage())
    yield child, writers
    close_all(child)
    for writer in writers.values():
        os.close(writer)


@given(writes=st.lists(st.tuples(STREAMS, st.integers(1, 300)), max_size=60))
def test_the_order_of_reading_is_kept(writes: list[tuple[int, int]]) -> None:
    with made() as (child, writers):
        for stream, size in writes:
            os.write(writers[stream], b"x" * size)
            assert child.read_stream(stream) == size
        told = [frame.stream for frame in child.unsent for _ in range(frame.size)]
        assert told == [stream for stream, size in writes for _ in range(size)]


@contextlib.contextmanager
def written_for_long(
    monkeypatch: pytest.MonkeyPatch, streams: tuple[int, ...]
) -> Iterator[tuple[Child, dict[int, list[int]]]]:
    """Let a process write a byte every 20 ms for a quarter of an hour, and give the times at which they were read."""
    clock = [1_000_000]
    monkeypatch.setattr(module, "now_ms", lambda: clock[0])
    with made() as (child, writers):
        read_at: dict[int, list[int]] = {STDOUT: [], STDERR: []}
        for i in range(15 * 60 * 50):
            clock[0] += 20
            stream = streams[i % len(streams)]
            os.write(writers[stream], b"x")
            assert child.read_stream(stream) == 1
            read_at[stream].append(clock[0])
        yield child, read_at


one_or_both = pytest.mark.parametrize("streams", [(STDOUT,), (STDOUT, STDERR)])


@one_or_both
def test_many_small_writes_make_few_frames(monkeypatch: pytest.MonkeyPatch, streams: tuple[int, ...]) -> None:
    with written_for_long(monkeypatch, streams) as (child, _):
        assert len(child.unsent) <= EXACT_FRAMES * 8


@one_or_both
def test_the_error_of_a_frames_time_is_bounded(monkeypatch: pytest.MonkeyPatch, streams: tuple[int, ...]) -> None:
    with written_for_long(monkeypatch, streams) as (child, read_at):
        for count, frame in enumerate(child.unsent):
            for offset in range(frame.offset, frame.end):
                error_ms = read_at[frame.stream][offset] - frame.ts_ms
                assert 0 <= error_ms < 1 << (count // EXACT_FRAMES + 1)


def test_read_times_survive_a_shim_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that has connected to the shim knows the times of all reads until then."""
    clock = [1_000_000]
    monkeypatch.setattr(module, "now_ms", lambda: clock[0])
    with made() as (child, writers):
        expected = []
        for i in range(10):
            clock[0] += 1000
            stream = (STDOUT, STDERR)[i % 3 == 0]
            expected.append((stream, clock[0]))
            os.write(writers[stream], b"x\n")
            assert child.read_stream(stream) == 2
        held = hold(child)
        os.write(writers[STDERR], b"x\n")
        assert child.read_stream(STDERR) == 2
        heir = hand_over(held, BufferUsage())
        held.close()
        assert [(frame.stream, frame.ts_ms) for frame in heir.unsent][:10] == expected
        assert sum(frame.size for frame in heir.unsent) == 22
        close_all(heir)


def test_a_frame_does_not_reach_from_one_file_into_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reader of a frame reads one file. After a handover, both files may look as if they were in memory."""
    monkeypatch.setattr(module, "now_ms", lambda: 1_000_000)
    with made() as (child, writers):
        buffer = child.streams[STDOUT]
        buffer.append_segment(spool_segment(tmp_path / "spool", 0))
        os.write(writers[STDOUT], b"on ")
        assert child.read_stream(STDOUT) == 3
        buffer.append_segment(memory_segment(3))
        held = hold(child)
        heir = hand_over(held, BufferUsage())
        os.write(writers[STDOUT], b"disk\n")
        assert heir.read_stream(STDOUT) == 5
        assert [(frame.offset, frame.size) for frame in heir.unsent] == [(0, 3), (3, 5)]
        read = [held.read(Stream.STDOUT, frame.ts_ms, frame.offset, frame.size) for frame in heir.unsent]
        assert b"".join(read) == b"on disk\n"
        held.close()
        close_all(heir)

"""Reading output: the file that output goes to, the number of files, and pipes that fill fast."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from outlast.linux import descriptors
from outlast.linux.memory import widen_pipe
from outlast.shim.event_loop import Loop
from outlast.shim.state.buffer import StreamBuffer, memory_segment
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDERR, STDOUT
from outlast.shim.state.handover import describe, dump_state, load_state
from outlast.shim.state.quota import BufferUsage
from outlast.shim.watch.output import MEMORY_PER_PROCESS_BYTES, OutputReader
from outlast.wire.fds import MAX_FDS


def test_a_process_has_a_limited_number_of_files(tmp_path: Path) -> None:
    """All of a process's descriptors must go with one message, however often that has happened."""
    usage = BufferUsage()
    loop = Loop(lambda: None)
    output_reader = OutputReader(loop, usage, tmp_path, Mock())
    child = Child(1, {"id": "01"}, None, usage)
    writers = {}
    for stream in (STDOUT, STDERR):
        reader, writers[stream] = os.pipe()
        os.set_blocking(reader, False)
        child.streams[stream] = StreamBuffer(reader, [memory_segment(0)])
    child.memory_bytes = MEMORY_PER_PROCESS_BYTES  # as if it had used its memory already
    output_reader.start_reading(child)
    written = 0

    def write() -> None:
        nonlocal written
        written += 1
        for writer in writers.values():
            os.write(writer, b"%03d\n" % written)
        while any(buffer.end < 4 * written for buffer in child.streams.values()):
            loop.run_once()

    for _ in range(200):
        write()
        output_reader.on_daemon_connected()
        output_reader.switch_to_memory(child)
        assert len(describe(child)[1]) <= MAX_FDS - 1  # a start's outcome may be one more
        write()
        output_reader.on_daemon_gone()
    expected = b"".join(b"%03d\n" % number for number in range(1, written + 1))
    for buffer in child.streams.values():
        assert b"".join(os.pread(segment.fd, 4096, 0) for segment in buffer.segments) == expected
    for writer in writers.values():
        os.close(writer)
    output_reader.discard(child)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_file_leaves_descriptors_for_what_must_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, the process waits, and is read again when there is one."""
    monkeypatch.setattr("outlast.shim.watch.output._RETRY_S", 0.01)
    usage = BufferUsage()
    loop = Loop(lambda: None)
    output_reader = OutputReader(loop, usage, tmp_path, Mock())
    child = Child(1, {"id": "01"}, None, usage)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    buffer = child.streams[STDOUT] = StreamBuffer(reader, [memory_segment(0)])
    child.memory_bytes = MEMORY_PER_PROCESS_BYTES  # as if it had used its memory already
    output_reader.start_reading(child)
    os.write(writer, b"later")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, limits[1]))
    try:
        assert 0 < descriptors.free() < descriptors.reserve()
        for _ in range(3):
            loop.run_once()
        assert (buffer.end, len(buffer.segments)) == (0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    while not buffer.end:
        loop.run_once()
    assert buffer.spools
    os.close(writer)


def refuse_splice(*_args: object, **_kwargs: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@contextlib.contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let no file of this process become larger: as on a disk that is full, a part of a write may succeed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bytes_that_were_read_and_cannot_be_written_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also those of a pipe in which nothing follows them, and over an upgrade."""
    monkeypatch.setattr(os, "splice", refuse_splice)
    loop = Loop(lambda: None)
    output_reader = OutputReader(loop, BufferUsage(), tmp_path, Mock())
    child = Child(1, {"id": "01"}, None, BufferUsage())
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    buffer = child.streams[STDOUT] = StreamBuffer(reader, [memory_segment(0)])
    output_reader.start_reading(child)
    os.write(writer, b"x" * 1500 + b"y" * 500)
    with limited_files(1000):
        while "File too large" not in (output_reader.problem or ""):
            loop.run_once()
        assert (buffer.end, buffer.unwritten) == (1000, b"x" * 500 + b"y" * 500)
    state, fds = dump_state(child)
    restored = load_state(json.loads(json.dumps(state)), fds, BufferUsage()).streams[STDOUT]
    assert (restored.end, restored.unwritten) == (1000, buffer.unwritten)
    while buffer.end < 2000:
        loop.run_once()
    assert output_reader.problem is None
    assert os.pread(buffer.segments[0].fd, 4000, 0) == b"x" * 1500 + b"y" * 500
    os.close(writer)
    while buffer.pipe is not None:
        loop.run_once()
    assert (child.unsent[-1].offset, child.unsent[-1].size) == (2000, 0)
    output_reader.discard(child)


class Fast:
    """A process whose reads follow each other every 80 us, however busy this machine is.

    Timers take longer by a factor, so that none is due because the test had to wait for a processor.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.loop = Loop(lambda: None)
        call_later = self.loop.call_later
        monkeypatch.setattr(self.loop, "call_later", lambda delay_s, act: call_later(300 * delay_s, act))
        usage = BufferUsage()
        self.output_reader = OutputReader(self.loop, usage, tmp_path, Mock())
        self.output_reader.on_daemon_connected()
        self.child = Child(1, {"id": "01"}, None, usage)
        reader, self.writer = os.pipe()
        os.set_blocking(reader, False)
        widen_pipe(reader)
        self.buffer = self.child.streams[STDOUT] = StreamBuffer(reader, [memory_segment(0)])
        now = itertools.count(1000, 0.00008)
        monkeypatch.setattr("outlast.shim.state.buffer.time", SimpleNamespace(monotonic=lambda: next(now)))
        self.output_reader.start_reading(self.child)

    def write(self, count: int) -> None:
        os.write(self.writer, b"x" * count)

    def read_after(self, count: int) -> int:
        """Write, run the loop once, and return the number of bytes that it has read."""
        before = self.buffer.end
        self.write(count)
        self.loop.run_once()
        return self.buffer.end - before


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fast]:
    fast = Fast(monkeypatch, tmp_path)
    yield fast
    fast.output_reader.discard(fast.child)
    os.close(fast.writer)


def test_a_pipe_that_fills_fast_is_left_to_gather_for_a_moment(fast: Fast) -> None:
    assert fast.read_after(8192) == 8192  # the first read: its pace is not known
    assert fast.read_after(8192) == 8192  # the second read: bytes gather from now on
    assert fast.read_after(8192) == 0
    assert fast.read_after(8192) == 2 * 8192


def test_lines_are_read_at_once(fast: Fast) -> None:
    assert [fast.read_after(100) for _ in range(10)] == [100] * 10


def test_a_pipe_that_would_become_full_is_read_at_once(fast: Fast) -> None:
    quarter = fcntl.fcntl(fast.writer, fcntl.F_GETPIPE_SZ) // 4
    assert [fast.read_after(quarter - 1) for _ in range(4)] == [quarter - 1] * 4


def test_the_end_of_a_pipe_that_gathers_is_seen_at_once(fast: Fast) -> None:
    assert [fast.read_after(8192) for _ in range(3)] == [8192, 8192, 0]
    gone, fast.writer = fast.writer, os.open(os.devnull, os.O_WRONLY)
    wakes = 0
    os.close(gone)
    while fast.buffer.pipe is not None:
        fast.loop.run_once()
        wakes += 1
    assert fast.buffer.end == 3 * 8192
    assert wakes <= 3  # one for the bytes, one for the end, none for a timer


def test_a_gathering_pipe_is_read_after_a_pause(fast: Fast) -> None:
    assert [fast.read_after(8192) for _ in range(3)] == [8192, 8192, 0]
    fast.child.held_bytes = 1 << 30
    fast.output_reader.pause_if_full(fast.child)
    fast.loop.call_later(0, lambda: None)
    fast.loop.run_once()
    fast.child.held_bytes = 0
    fast.output_reader.resume_reading()
    while fast.buffer.end < 3 * 8192:
        fast.loop.run_once()

"""Intake: which file output goes to, and how many of them there may be."""

import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from outlast.linux.memory import widen_pipe
from outlast.shim.event_loop import Loop
from outlast.shim.state.buffer import StreamBuffer, memory_segment
from outlast.shim.state.child import STDERR, STDOUT, BufferUsage, Child
from outlast.shim.state.handover import describe
from outlast.shim.watch.output import MEMORY_A_PROCESS_BYTES, OutputReader
from outlast.wire.fds import MAX_FDS


def test_daemons_that_come_and_go_and_store_nothing_do_not_make_files_without_end(tmp_path: Path) -> None:
    """All of a process's descriptors must go with one message, however often that has happened."""
    room = BufferUsage()
    loop = Loop(lambda: None)
    intake = OutputReader(loop, room, tmp_path, lambda _child: None)
    child = Child(1, {"id": "01"}, None, room)
    writers = {}
    for stream in (STDOUT, STDERR):
        reader, writers[stream] = os.pipe()
        os.set_blocking(reader, False)
        child.streams[stream] = StreamBuffer(reader, [memory_segment(0)])
    child.memory_bytes = MEMORY_A_PROCESS_BYTES  # as if it had its part of memory already
    intake.watch(child)
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
        intake.on_daemon()
        intake.share(child)
        assert len(describe(child)[1]) <= MAX_FDS - 1  # a start's outcome may be one more
        write()
        intake.on_daemon_gone()
    expected = b"".join(b"%03d\n" % number for number in range(1, written + 1))
    for buffer in child.streams.values():
        assert b"".join(os.pread(segment.fd, 4096, 0) for segment in buffer.segments) == expected
    for writer in writers.values():
        os.close(writer)
    intake.forget(child)
    assert list((tmp_path / "spool").iterdir()) == []


class Fast:
    """A process whose reads all come 80 us after one another, whatever this machine does meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.loop = Loop(lambda: None)
        room = BufferUsage()
        self.intake = OutputReader(self.loop, room, tmp_path, lambda _child: None)
        self.intake.on_daemon()
        self.child = Child(1, {"id": "01"}, None, room)
        reader, self.writer = os.pipe()
        os.set_blocking(reader, False)
        widen_pipe(reader)
        self.buffer = self.child.streams[STDOUT] = StreamBuffer(reader, [memory_segment(0)])
        now = itertools.count(1000, 0.00008)
        monkeypatch.setattr("outlast.shim.state.buffer.time", SimpleNamespace(monotonic=lambda: next(now)))
        self.intake.watch(self.child)

    def write(self, count: int) -> None:
        os.write(self.writer, b"x" * count)

    def read_after(self, count: int) -> int:
        """Write, let the loop turn once, and tell how much it has read."""
        before = self.buffer.end
        self.write(count)
        self.loop.run_once()
        return self.buffer.end - before


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fast]:
    fast = Fast(monkeypatch, tmp_path)
    yield fast
    fast.intake.forget(fast.child)
    os.close(fast.writer)


def test_a_pipe_that_fills_fast_is_left_to_gather_for_a_moment(fast: Fast) -> None:
    assert fast.read_after(8192) == 8192  # the first of all: nothing is known of its pace
    assert fast.read_after(8192) == 8192  # it comes fast, and is read; what comes next gathers
    assert fast.read_after(8192) == 0
    assert fast.read_after(8192) == 2 * 8192


def test_lines_and_what_would_fill_the_pipe_are_read_at_once(fast: Fast) -> None:
    assert [fast.read_after(100) for _ in range(10)] == [100] * 10
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
    assert wakes <= 3  # what is there, and the end; no timer


def test_a_pipe_that_gathers_can_be_paused_and_forgotten(fast: Fast) -> None:
    assert [fast.read_after(8192) for _ in range(3)] == [8192, 8192, 0]
    fast.child.held_bytes = 1 << 30
    fast.intake.pause_if_full(fast.child)
    fast.loop.later(0, lambda: None)
    fast.loop.run_once()
    fast.child.held_bytes = 0
    fast.intake.resume()
    while fast.buffer.end < 3 * 8192:
        fast.loop.run_once()

"""Intake: which file output goes to, and how many of them there may be."""

import os
from pathlib import Path

from app.shim.buffer import StreamBuffer, memory_segment
from app.shim.child import STDERR, STDOUT, Child, Room
from app.shim.descriptors import MAX_FDS
from app.shim.handover import describe
from app.shim.intake import MEMORY_A_PROCESS_BYTES, Intake
from app.shim.loop import Loop


def test_daemons_that_come_and_go_and_store_nothing_do_not_make_files_without_end(tmp_path: Path) -> None:
    """All of a process's descriptors must go with one message, however often that has happened."""
    room = Room()
    loop = Loop(lambda: None)
    intake = Intake(loop, room, tmp_path, lambda _child: None)
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

"""Buffer files: stored output is freed, on disk as in memory."""

import os
from pathlib import Path

import pytest

from outlast.shim.state.buffer import READ_BYTES, Segment, StreamBuffer, memory_segment, spool_segment

SIZE = 4 << 20
STEP = 1 << 20


def used_bytes(segment: Segment) -> int:
    return os.fstat(segment.fd).st_blocks * 512


def fill(buffer: StreamBuffer, writer: int, size: int) -> None:
    while size:
        size -= os.write(writer, b"x" * min(size, 64 << 10))
        assert buffer.read_pipe()


@pytest.mark.parametrize("on_disk", [False, True])
def test_stored_output_is_freed(tmp_path: Path, on_disk: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    segment = spool_segment(tmp_path / "spool", 0) if on_disk else memory_segment(0)
    buffer = StreamBuffer(reader, [segment])
    try:
        fill(buffer, writer, SIZE)
        os.fsync(segment.fd)
        assert used_bytes(segment) >= SIZE
        for stored in range(0, SIZE + 1, READ_BYTES):
            buffer.trim(stored)
            assert used_bytes(segment) <= SIZE - stored + STEP
        assert used_bytes(segment) == 0
        assert os.fstat(segment.fd).st_size == SIZE
        fill(buffer, writer, 1000)
        assert os.pread(segment.fd, 2000, SIZE) == b"x" * 1000
    finally:
        os.close(writer)
        os.close(reader)
        buffer.close()
    assert list(tmp_path.iterdir()) == []


def test_output_before_an_unfinished_character_is_freed() -> None:
    """A process that is quiet in the middle of a character keeps no more than any other."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    segment = memory_segment(0)
    buffer = StreamBuffer(reader, [segment])
    try:
        fill(buffer, writer, STEP // 2)
        buffer.trim(STEP // 2 - 3)
        assert used_bytes(segment) <= 4096
    finally:
        os.close(writer)
        os.close(reader)
        buffer.close()

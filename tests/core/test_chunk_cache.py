"""The chunk cache is limited by the memory that it takes, and not only by the bytes of output."""

import tracemalloc
from typing import Any

import pytest

from outlast.core.output.chunk_cache import PROCESS_BYTES, TOTAL_BYTES, ChunkCache
from outlast.model.output import Chunk, GapReason, Position, Stream

GAP: Any = {"missing_bytes": 0, "reason": GapReason.LOST, "ts_ms": 1}


@pytest.mark.parametrize(("processes", "lines"), [(1, 6_000), (5_000, 1), (500, 20)])
def test_the_counted_bytes_equal_the_memory_taken(processes: int, lines: int) -> None:
    cache = ChunkCache()
    tracemalloc.start()
    try:
        for handle in range(1_000, 1_000 + processes):
            for seq in range(1_000, 1_000 + lines):
                cache.append_chunk(_line(handle, seq))
                cache.note_stored(handle)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1.1 * cache._total_bytes


def test_what_is_not_stored_stays() -> None:
    """The store does not have it. Of what is stored, the process that has been quiet for longest is evicted."""
    cache = ChunkCache()
    size = 64 << 10
    for handle in (1, 2):
        for seq in range(1, 1 + 2 * PROCESS_BYTES // size):
            cache.append_chunk(_line(handle, seq, size))
    assert len(_read(cache, 1, 0) or ()) == 2 * PROCESS_BYTES // size
    for _ in range(2 * PROCESS_BYTES // size):
        cache.note_stored(1)
    assert _read(cache, 1, 0) is None, "more is stored than is kept"
    assert _read(cache, 1, 2 * PROCESS_BYTES // size - 2)
    for handle in range(3, 3 + TOTAL_BYTES // PROCESS_BYTES):
        for seq in range(1, 1 + PROCESS_BYTES // size):
            cache.append_chunk(_line(handle, seq, size))
            cache.note_stored(handle)
    assert _read(cache, 1, 2 * PROCESS_BYTES // size - 2) is None
    assert len(_read(cache, 2, 0) or ()) == 2 * PROCESS_BYTES // size


def test_deleted_output_is_forgotten_and_what_is_not_stored_stays() -> None:
    cache = ChunkCache()
    for seq in range(1, 5):
        cache.append_chunk(_line(1, seq))
    cache.note_stored(1)
    cache.note_stored(1)
    cache.forget(1, 1)
    assert _read(cache, 1, 0) is None
    assert _read(cache, 1, 1) == [_line(1, 2), _line(1, 3), _line(1, 4)]
    cache.forget(1, 3)
    assert _read(cache, 1, 2) == [_line(1, 3), _line(1, 4)]
    cache.note_stored(1)
    cache.note_stored(1)
    cache.forget(1, 4)
    assert _read(cache, 1, 4) is None
    assert not cache._total_bytes


def test_what_the_store_rejects_is_dropped() -> None:
    cache = ChunkCache()
    for seq in (1, 2, 3):
        cache.append_chunk(_line(1, seq))
    cache.note_stored(1)
    cache.drop_unstored(1)
    assert _read(cache, 1, 0) == [_line(1, 1)]
    again = Chunk.gap_after(Position(last_seq=1), handle=1, run=1, stream=Stream.STDOUT, **GAP)
    cache.append_chunk(again)
    assert _read(cache, 1, 1) == [again]
    cache.evict(1)
    cache.note_stored(1)
    assert _read(cache, 1, 0) is None
    assert not cache._total_bytes


def _read(cache: ChunkCache, handle: int, after_seq: int) -> list[Chunk] | None:
    return cache.read_chunks(handle, after_seq=after_seq, max_bytes=TOTAL_BYTES)


def _line(handle: int, seq: int, size: int = 0) -> Chunk:
    data = b"%d" % seq + b"." * size + b"\n"
    end = seq * len(data)
    return Chunk(
        handle=handle,
        run=1,
        first_seq=seq,
        line_count=1,
        stream=Stream.STDOUT,
        ts_ms=1_710_000_000_000 + seq,
        stdout_end=end,
        stderr_end=end + 1,
        data=data,
    )

"""The chunk cache is limited by the memory that it takes, and not only by the bytes of output."""

import tracemalloc

import pytest

from outlast.core.output.chunk_cache import ChunkCache
from outlast.model.output import Chunk, Stream


@pytest.mark.parametrize(("processes", "lines"), [(1, 6_000), (5_000, 1), (500, 20)])
def test_the_counted_bytes_equal_the_memory_taken(processes: int, lines: int) -> None:
    cache = ChunkCache()
    tracemalloc.start()
    try:
        for handle in range(1_000, 1_000 + processes):
            for seq in range(1_000, 1_000 + lines):
                cache.append_chunk(_line(handle, seq))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1.1 * cache._total_bytes


def _line(handle: int, seq: int) -> Chunk:
    data = b"%d\n" % seq
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

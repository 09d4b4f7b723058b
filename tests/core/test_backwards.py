"""Reading output backwards: pages join without loss or repeat, whatever lines match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.query import backwards
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import NotFound
from outlast.model.output import Chunk, Stream
from outlast.storage import Storage, storage_from_url
from outlast.testing.storage.model import whole_lines
from outlast.testing.storage.samples import Output, added

Found = list[tuple[int, bytes]]
DATA = st.lists(st.sampled_from([b"a\n", b"b\n", b"ab\n", b"\n", b"a"]), min_size=1, max_size=4).map(b"".join)
PARTS = st.lists(st.tuples(st.none() | DATA, st.sampled_from(Stream), st.booleans()), max_size=10)


async def select_a(chunk: Chunk) -> list[int]:
    return [seq for seq, line in enumerate(chunk.lines(), chunk.first_seq) if b"a" in line]


async def page(storage: Storage, handle: int, where: OutputQuery, before: int, limit: int, *, only_a: bool) -> Found:
    select = select_a if only_a else None
    chunks = [it async for it in backwards.read_before(storage, handle, where, before, limit, select)]
    lines = [(seq, line) for chunk in chunks for seq, line in enumerate(chunk.lines(), chunk.first_seq)]
    return [(seq, line) for seq, line in lines if not only_a or b"a" in line]


@given(
    parts=PARTS,
    stream=st.none() | st.sampled_from(Stream),
    after=st.integers(0, 6),
    limit=st.integers(1, 4),
    block=st.integers(1, 3),
    only_a=st.booleans(),
)
async def test_pages_join_without_loss_or_repeat(
    parts: list[tuple[bytes | None, Stream, bool]],
    stream: Stream | None,
    after: int,
    limit: int,
    block: int,
    *,
    only_a: bool,
) -> None:
    storage = storage_from_url("memory:")
    handle = await added(storage)
    output = Output(handle)
    chunks = [
        output.gap(1, stream_) if data is None else output.chunk(data, stream_, continues=continues)
        for data, stream_, continues in parts
    ]
    await storage.commit(chunks)
    expected = [
        (line.seq, text)
        for line in whole_lines(chunks)
        if stream in (None, line.stream) and line.seq > after and (text := line.text(after)) is not None
    ]
    expected = [(seq, text) for seq, text in expected if not only_a or b"a" in text]
    where = OutputQuery(stream=stream, after=after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backwards, "_BLOCK_LINES", block)
        found: Found = []
        before = output.position.last_seq + 1
        while lines := await page(storage, handle, where, before, limit, only_a=only_a):
            assert len(lines) <= limit
            found = lines + found
            before = lines[0][0]
    assert found == expected


async def test_a_page_ends_where_since_begins() -> None:
    storage = storage_from_url("memory:")
    handle = await added(storage)
    output = Output(handle)
    await storage.commit([output.chunk(b"a%d\n" % n, ts_ms=n) for n in range(1, 10)])
    for only_a in (False, True):
        where = OutputQuery(since_ms=5)
        assert [seq for seq, _ in await page(storage, handle, where, 8, 100, only_a=only_a)] == [5, 6, 7]
        assert [seq for seq, _ in await page(storage, handle, where, 8, 2, only_a=only_a)] == [6, 7]
        assert await page(storage, handle, where, 5, 100, only_a=only_a) == []
        assert await page(storage, handle, OutputQuery(since_ms=50), 8, 100, only_a=only_a) == []


async def test_the_page_of_a_purged_process_is_an_error() -> None:
    with pytest.raises(NotFound):
        await page(storage_from_url("memory:"), 1, OutputQuery(), 8, 100, only_a=False)

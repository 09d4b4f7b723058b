"""A follower keeps its connection, and gets heartbeats, while the store cannot be read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.model.errors import StorageUnavailable
from outlast.storage import Chunk
from outlast.testing.storage.faulty import Fault, FaultyStorage, Mode, inject
from outlast.testing.storage.samples import Output, added
from tests.support.waiting import DEADLINE_S

HEARTBEAT_S = 0.05


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


@pytest.fixture
async def cursor(control: Path) -> AsyncIterator[Cursor]:
    """A cursor for the last two of three lines, of a process that has ended."""
    storage = FaultyStorage.from_url(f"faulty:{control}?memory:", durable=True)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"1\n2\n"), output.chunk(b"3\n")])
    yield Cursor(storage, ChunkCache(), output.handle, None, OutputQuery(tail=2))
    await storage.close()


async def _next(found: AsyncIterator[Sequence[Chunk] | None]) -> Sequence[Chunk] | None:
    return await asyncio.wait_for(anext(found), DEADLINE_S)


@pytest.mark.parametrize("mode", [Mode.ERR, Mode.STALL])
async def test_history_comes_once_the_store_can_be_read(cursor: Cursor, control: Path, mode: Mode) -> None:
    inject(control, Fault(mode=mode, reads=True))
    follow = cursor.follow(HEARTBEAT_S)
    for _ in range(2):
        assert await _next(follow) is None  # and not (), which says that there is nothing more
    inject(control, Fault())
    found = b""
    async for chunks in follow:
        found += b"".join(chunk.data for chunk in chunks or ())
    assert found == b"2\n3\n"


@pytest.mark.parametrize("mode", [Mode.ERR, Mode.STALL])
async def test_a_stopping_daemon_ends_a_follower_that_cannot_read(cursor: Cursor, control: Path, mode: Mode) -> None:
    inject(control, Fault(mode=mode, reads=True))
    follow = cursor.follow(HEARTBEAT_S)
    assert await _next(follow) is None
    cursor.interrupt()
    with pytest.raises(FollowInterrupted):
        await _next(follow)


async def test_a_plain_read_fails_at_once(cursor: Cursor, control: Path) -> None:
    inject(control, Fault(mode=Mode.ERR, reads=True))
    with pytest.raises(StorageUnavailable):
        await anext(cursor.stored())

"""The reader of a group: its position as text, its order, its bound, and processes that wait for room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.output.chunk_cache import ChunkCache
from outlast.core.query import group, output_cursor
from outlast.core.query.event_feed import EventFeed
from outlast.core.query.follow import follow
from outlast.core.query.group import GroupQuery, GroupReader, Item, Joined, Left, Printed, first_position
from outlast.core.query.group_position import GroupPosition
from outlast.core.query.output_cursor import Cursor, OutputQuery
from outlast.model.errors import InvalidRequest, NotFound
from outlast.model.process import Process
from outlast.storage import Change, CompleteOutput, Storage, storage_from_url
from outlast.testing.storage.samples import Output, end_of, new_process
from tests.support.waiting import DEADLINE_S

POSITIONS = st.builds(
    GroupPosition, st.dictionaries(st.integers(1, 10**15), st.integers(0, 10**15), max_size=4), st.integers(0, 10**15)
).map(lambda it: GroupPosition(it.seqs, max(it.bound, *it.seqs, 0)))


@given(position=POSITIONS)
def test_a_position_is_told_as_text(position: GroupPosition) -> None:
    assert GroupPosition.parse(str(position)) == position
    for handle, seq in position.seqs.items():
        before, behind = position.around(handle)
        assert f"{before}{seq}{behind}" == str(position)
        assert GroupPosition.parse(f"{before}{seq + 1}{behind}") == position.at(handle, seq + 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1:2,",
        ",1:2",
        "1:",
        ":1",
        "1:2,1:3",
        "2:1,1:1",
        "2:1,1",
        "1,2:1",
        "0:1",
        "x",
        "1:2:3",
        "-1:2",
        "\uff11:1",
    ],
)
def test_another_text_tells_no_position(text: str) -> None:
    assert GroupPosition.parse(text) is None


class World:
    """A store in memory, and a group that is followed."""

    def __init__(self) -> None:
        self.storage: Storage = storage_from_url("memory:")
        self.feed = EventFeed(self.storage)

    async def commit(self, *changes: Change) -> int:
        handles = await self.storage.commit(changes)
        self.feed.on_committed(changes)
        return next(iter(handles.values()), 0)

    async def add(self, *, team: str = "a", ended: bool = True) -> Output:
        handle = await self.commit(new_process(team=team))
        output = Output(handle)
        if ended:
            await self.commit(end_of(handle), CompleteOutput(handle, 1))
        return output

    @contextlib.asynccontextmanager
    async def following(self, query: GroupQuery, position: GroupPosition) -> AsyncIterator["Following"]:
        def open_reader(process: Process, where: OutputQuery) -> Cursor:
            return Cursor(self.storage, ChunkCache(), process.handle, None, where)

        reader = GroupReader(
            self.storage,
            self.feed,
            query,
            position,
            open_reader=open_reader,
            watching=lambda _: contextlib.nullcontext(),
        )
        async with contextlib.aclosing(follow(reader, 60)) as batches:
            yield Following(batches)
        reader.close()


class Following:
    def __init__(self, batches: AsyncIterator[Sequence[Item] | None]) -> None:
        self._batches = batches

    async def items(self, ends: int = 1000) -> list[Item]:
        """Return the items up to the end, or until `ends` processes have left."""
        found: list[Item] = []
        async with asyncio.timeout(DEADLINE_S):
            async for items in self._batches:
                found += items or ()
                if sum(isinstance(item, Left) for item in found) >= ends:
                    break
        return found


def printed(items: list[Item]) -> list[tuple[int, bytes]]:
    return [(item.process.handle, chunk.data) for item in items if isinstance(item, Printed) for chunk in item.chunks]


@pytest.mark.parametrize("read_bytes", [1, 6, 1 << 20])
async def test_lines_come_in_the_order_in_which_they_were_read(
    monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(output_cursor, "_FOLLOW_READ_BYTES", read_bytes)
    world = World()
    outputs = [await world.add() for _ in range(3)]
    for time in range(20):
        output = outputs[time * 7 % 3]
        await world.commit(output.chunk(b"%d\n" % time, ts_ms=time))
    position = GroupPosition({output.handle: 0 for output in outputs}, 3)
    async with world.following(GroupQuery(refs=["x"]), position) as following:
        items = await following.items()
    assert [data for _, data in printed(items)] == [b"%d\n" % time for time in range(20)]
    assert isinstance(items[0], Joined)
    assert [process.handle for process in items[0].processes] == [1, 2, 3]
    assert sorted(item.handle for item in items if isinstance(item, Left)) == [1, 2, 3]


async def test_a_process_beyond_the_maximum_joins_when_another_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "MAX_MEMBERS", 2)
    world = World()
    for number in range(5):
        output = await world.add(team="a" if number else "b")
        await world.commit(output.chunk(b"%d\n" % number))
    async with world.following(GroupQuery(tags={"team": "a"}), GroupPosition({}, 0)) as following:
        items = await following.items(4)
        members = most = 0
        for item in items:
            members += len(item.processes) if isinstance(item, Joined) else -isinstance(item, Left)
            most = max(most, members)
        assert most == 2
        assert sorted(printed(items)) == [(2, b"1\n"), (3, b"2\n"), (4, b"3\n"), (5, b"4\n")]
        later = await world.add()
        assert [type(item) for item in await following.items(1)] == [Joined, Left]
        assert later.handle == 6


async def test_a_group_begins_with_what_is_named_and_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    ended, running, other = await world.add(), await world.add(ended=False), await world.add(team="b", ended=False)
    await world.commit(running.chunk(b"1\n2\n3\n"))

    async def find(ref: str) -> Process:
        process = await world.storage.process(int(ref))
        if process is None:
            raise NotFound(ref)
        return process

    async def begin(*refs: int, team: str = "", tail: int | None = None) -> GroupPosition:
        tags = {"team": team} if team else {}
        return await first_position(world.storage, find, GroupQuery(refs=[*map(str, refs)], tags=tags, tail=tail))

    assert await begin(ended.handle) == GroupPosition({1: 0}, 1)
    assert await begin(team="a") == GroupPosition({2: 0}, 3)
    assert await begin(1, 3, 1, team="a", tail=1) == GroupPosition({1: 0, 2: 2, 3: 0}, 3)
    assert await begin(team="none") == GroupPosition({}, 3)
    with pytest.raises(NotFound):
        await begin(9)
    monkeypatch.setattr(group, "MAX_MEMBERS", 1)
    with pytest.raises(InvalidRequest, match="select 2 processes"):
        await begin(other.handle, team="a")

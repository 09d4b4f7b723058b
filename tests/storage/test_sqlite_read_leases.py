"""Where readers of all processes may go on."""

import asyncio

import pytest

from outlast.storage.sqlite.maintenance.read_leases import KEPT_S, ReadLeases


def test_rows_below_and_above_may_be_merged() -> None:
    places = ReadLeases()
    places.note(10, 20, 10)
    for first, last, hindered in [(1, 10, False), (1, 11, True), (12, 15, True), (20, 30, True), (21, 30, False)]:
        assert places.blocks(first, last) is hindered, (first, last)


def test_nobody_is_left_where_somebody_has_gone_on() -> None:
    places = ReadLeases()
    places.note(10, 20, 100)
    places.note(10, 20, 100)
    places.went_on(None)
    places.went_on(101)
    places.went_on(100)
    assert places.blocks(1, 15)
    places.went_on(100)
    assert not places.blocks(1, 15)


def test_a_place_is_kept_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    places = ReadLeases()
    places.note(10, 20, None)
    now += KEPT_S - 1
    assert places.blocks(1, 15)
    now += 1
    assert not places.blocks(1, 15)


async def test_rows_are_merged_while_nobody_reads() -> None:
    places, told = ReadLeases(), list[str]()

    async def merge() -> None:
        async with places.merging():
            told.append("merged")

    async with places.reading(), places.reading():
        merging = asyncio.create_task(merge())
        await asyncio.sleep(0)
        told.append("read")
    await merging
    async with places.merging():
        reading = asyncio.create_task(places.reading().__aenter__())
        await asyncio.sleep(0)
        assert not reading.done()
    await reading
    assert told == ["read", "merged"]

"""Read leases: rows that a reader has been given are not merged while it may continue."""

import asyncio

import pytest

from outlast.storage.sqlite.maintenance.read_leases import LEASE_S, ReadLeases


def test_only_rows_outside_a_lease_may_be_merged() -> None:
    leases = ReadLeases()
    leases.grant(10, 20, 10)
    for first, last, forbidden in [(1, 10, False), (1, 11, True), (12, 15, True), (20, 30, True), (21, 30, False)]:
        assert leases.forbids_merge(first, last) is forbidden, (first, last)


def test_a_reader_that_continues_releases_one_lease() -> None:
    leases = ReadLeases()
    leases.grant(10, 20, 100)
    leases.grant(10, 20, 100)
    leases.release(None)
    leases.release(101)
    leases.release(100)
    assert leases.forbids_merge(1, 15)
    leases.release(100)
    assert not leases.forbids_merge(1, 15)


def test_a_lease_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    leases = ReadLeases()
    leases.grant(10, 20, None)
    now += LEASE_S - 1
    assert leases.forbids_merge(1, 15)
    now += 1
    assert not leases.forbids_merge(1, 15)


async def test_compaction_waits_for_scans() -> None:
    leases, events = ReadLeases(), list[str]()

    async def merge() -> None:
        async with leases.lock_for_compaction():
            events.append("merged")

    async with leases.lock_for_scan(), leases.lock_for_scan():
        merging = asyncio.create_task(merge())
        await asyncio.sleep(0)
        events.append("read")
    await merging
    assert events == ["read", "merged"]


async def test_a_scan_waits_for_compaction() -> None:
    leases = ReadLeases()
    async with leases.lock_for_compaction():
        reading = asyncio.create_task(leases.lock_for_scan().__aenter__())
        await asyncio.sleep(0)
        assert not reading.done()
    await reading

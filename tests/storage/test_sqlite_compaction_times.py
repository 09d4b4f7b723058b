"""Compaction: when rows are merged, and who reads meanwhile."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.model.process import Order, Run
from outlast.model.scan import ScanQuery
from outlast.storage.base import BeginRun, CompleteOutput
from outlast.storage.sqlite import SqliteStorage
from outlast.testing.storage.samples import Output, added
from outlast.testing.storage.scan import scanned
from tests.storage.stores import EagerStorage, sqlite_storage
from tests.support.waiting import eventually


@pytest.fixture
async def eager(path: Path) -> AsyncIterator[EagerStorage]:
    storage = EagerStorage(path)
    await storage.open()
    yield storage
    await storage.close()


def _count(storage: SqliteStorage, handle: int) -> int:
    with closing(sqlite3.connect(storage.path)) as db:
        found: int = db.execute("SELECT count(*) FROM output_chunk WHERE handle = ?", (handle,)).fetchone()[0]
        return found


async def test_output_is_merged_when_it_is_complete(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    for _ in range(5):
        await storage.commit([output.chunk(b"x\n")])
    await storage._maintenance.wait_idle()
    assert _count(storage, output.handle) == 5
    await storage.commit([CompleteOutput(output.handle, 1)])
    await storage._maintenance.wait_idle()
    assert _count(storage, output.handle) == 1


async def test_output_of_a_later_run_is_merged(eager: EagerStorage) -> None:
    output = Output(await added(eager))
    for run in (1, 2):
        if run > 1:
            await eager.commit([BeginRun(output.handle, Run(number=run, pid=1, started_at_ms=1))])
        await eager.commit([output.chunk(b"x\n", run=run), output.chunk(b"x\n", run=run)])
        await eager.commit([CompleteOutput(output.handle, run)])
        assert _count(eager, output.handle) == run


@pytest.fixture
async def patient(path: Path) -> AsyncIterator[EagerStorage]:
    """Return a storage that merges 30 rows at once, and 16 rows after a moment without output."""
    storage = EagerStorage(path)
    storage._maintenance._policy = replace(storage._maintenance._policy, due_rows=30, min_rows=16, quiet_s=0.05)
    await storage.open()
    yield storage
    await storage.close()


async def test_output_is_merged_when_many_rows_have_come(patient: EagerStorage) -> None:
    # On a busy machine, a moment passes between two commits.
    patient._maintenance._policy = replace(patient._maintenance._policy, quiet_s=600)
    output = Output(await added(patient))
    for _ in range(30):
        await patient.commit([output.chunk(b"x\n")])
    assert _count(patient, output.handle) == 1


async def test_output_is_merged_when_it_is_quiet(patient: EagerStorage) -> None:
    output = Output(await added(patient))
    for _ in range(20):
        await patient.commit([output.chunk(b"x\n")])
    assert _count(patient, output.handle) == 20
    await eventually(lambda: _count(patient, output.handle) == 1)


async def test_output_that_never_pauses_is_merged_when_it_is_old(patient: EagerStorage) -> None:
    patient._maintenance._policy = replace(patient._maintenance._policy, quiet_s=0.05, due_s=0.1, due_rows=10**9)
    output = Output(await added(patient))
    stored = 0

    async def print_on() -> bool:
        nonlocal stored
        await patient.commit([output.chunk(b"x\n")])
        stored += 1
        patient._maintenance._new_rows[output.handle].last_s = float("inf")  # as if it had never paused
        return _count(patient, output.handle) < stored

    await eventually(print_on)


async def test_rows_of_an_earlier_daemon_are_merged(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    outputs = [Output(await added(storage)) for _ in range(3)]
    for output in outputs:
        for _ in range(5):
            await storage.commit([output.chunk(b"x\n")])
    await storage.close()
    storage = EagerStorage(path, lease_s=0)
    await storage.open()
    try:
        await eventually(lambda: [_count(storage, output.handle) for output in outputs] == [1, 1, 1])
    finally:
        await storage.close()


async def test_steps_wait_for_a_moment_without_a_commit(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    under_way = asyncio.create_task(storage.commit([output.chunk(b"x\n" * 100_000)]))
    await asyncio.sleep(0)
    await storage.wait_for_commits(0)
    assert not under_way.done()
    await storage.wait_for_commits(60)
    assert under_way.done() or storage._commits == 0
    await under_way


async def test_nothing_is_written_when_there_is_nothing_to_merge(eager: EagerStorage) -> None:
    outputs = [Output(await added(eager)) for _ in range(2)]
    await eager.commit([chunk for output in outputs for chunk in (output.chunk(b"x\n"), output.chunk(b"x\n"))])
    await eager.commit([CompleteOutput(outputs[0].handle, 1)])
    log = Path(f"{eager.path}-wal")
    size = log.stat().st_size
    for output in outputs:
        eager._maintenance._mark_due(output.handle)
    eager._maintenance._start_backlog()
    await eager._maintenance.wait_idle()
    assert log.stat().st_size == size
    assert not eager._maintenance._quiet_check_pending


# ---- readers of all processes


@pytest.mark.parametrize("order", Order)
async def test_a_scan_continues_during_compaction(path: Path, order: Order) -> None:
    storage = EagerStorage(path)
    storage._maintenance._policy = replace(storage._maintenance._policy, due_rows=1000)
    await storage.open()
    try:
        outputs = [Output(await added(storage)) for _ in range(3)]
        chunks = [output.chunk(b"%d\n" % n) for n in range(10) for output in outputs]
        for chunk in chunks:
            await storage.commit([chunk])
        expected = chunks if order is Order.OLDEST else chunks[::-1]
        piece = await storage.scan(ScanQuery(order=order, max_chunks=11))
        await storage.commit([CompleteOutput(output.handle, 1) for output in outputs])
        found = [chunk for _, chunk in piece.chunks]
        assert found == expected[:11]
        found += await scanned(storage, ScanQuery(order=order, position=piece.position, max_chunks=4))
        assert found == expected
    finally:
        await storage.close()

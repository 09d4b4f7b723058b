"""The store that fails on command: transparent until told otherwise, and then as its docstring says."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlast.model.errors import StorageError, StorageUnavailable
from outlast.model.sql import SqlQuery
from outlast.storage.base import Storage
from outlast.testing.storage.conformance import StorageConformance
from outlast.testing.storage.faulty import Fault, FaultyStorage, Mode, inject
from outlast.testing.storage.samples import Output, added, new_process
from tests.support.waiting import eventually


class TestFaulty(StorageConformance):
    persistent = False

    def make_storage(self, folder: Path) -> Storage:
        return FaultyStorage.from_url(f"faulty:{folder}/control.json?memory:", durable=True)


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


@pytest.fixture
async def storage(control: Path) -> AsyncIterator[FaultyStorage]:
    storage = FaultyStorage.from_url(f"faulty:{control}?memory:", durable=True)
    await storage.open()
    yield storage
    await storage.close()


@pytest.mark.parametrize("url", ["faulty:", "faulty:/control.json", "faulty:?memory:", "faulty:/control.json?none:"])
def test_urls_that_name_no_file_or_no_store_are_refused(url: str) -> None:
    with pytest.raises(StorageError):
        FaultyStorage.from_url(url, durable=True)


@pytest.mark.parametrize(
    ("fault", "error", "stored"),
    [
        (Fault(mode=Mode.ERR), StorageUnavailable, 0),
        (Fault(mode=Mode.REFUSE), ValueError, 0),
        (Fault(mode=Mode.BREAK), RuntimeError, 0),
        (Fault(mode=Mode.TEAR), StorageUnavailable, 2),
        (Fault(mode=Mode.TEAR, part=1), StorageUnavailable, 1),
    ],
    ids=str,
)
async def test_each_fault_fails_a_commit(
    storage: FaultyStorage, control: Path, fault: Fault, error: type[Exception], stored: int
) -> None:
    changes = [new_process(), new_process()]
    inject(control, fault)
    for _ in range(2):
        with pytest.raises(error):
            await storage.commit(changes)
        assert await storage.total() == stored
    inject(control, Fault())
    await storage.commit(changes)
    assert await storage.total() == 2


async def test_a_stalled_commit_ends_as_the_next_fault_says(storage: FaultyStorage, control: Path) -> None:
    inject(control, Fault(mode=Mode.STALL))
    commits = asyncio.create_task(storage.commit([new_process()]))
    await asyncio.wait([commits], timeout=0.1)
    assert not commits.done()
    with pytest.raises(AssertionError, match="before another had returned"):
        await storage.commit([])
    inject(control, Fault(mode=Mode.ERR))
    with pytest.raises(StorageUnavailable):
        await commits
    assert await storage.total() == 0


async def test_a_fault_may_concern_one_process(storage: FaultyStorage, control: Path) -> None:
    good, bad = Output(await added(storage)), Output(await added(storage))
    inject(control, Fault(mode=Mode.REFUSE, handle=bad.handle))
    await storage.commit([good.chunk(b"line\n"), new_process()])
    with pytest.raises(ValueError, match="injected"):
        await storage.commit([good.chunk(b"line\n"), bad.chunk(b"line\n")])
    assert await storage.tail(good.handle, 0) == 1


async def test_a_fault_may_concern_reads(storage: FaultyStorage, control: Path) -> None:
    inject(control, Fault(mode=Mode.ERR, reads=True))
    with pytest.raises(StorageUnavailable):
        await storage.total()
    inject(control, Fault(mode=Mode.STALL, reads=True))
    reading = asyncio.create_task(storage.total())
    await asyncio.wait([reading], timeout=0.1)
    assert not reading.done()
    inject(control, Fault())
    await eventually(reading.done)
    assert await reading == 0


async def test_sql_is_forwarded(control: Path, tmp_path: Path) -> None:
    storage = FaultyStorage.from_url(f"faulty:{control}?sqlite:///{tmp_path}/outlast.db", durable=True)
    await storage.open()
    try:
        answer = json.loads(await storage.sql(SqlQuery(query="SELECT 1 AS one")))
    finally:
        await storage.close()
    assert answer["rows"] == [[1]]

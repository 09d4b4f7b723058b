"""A burst of starts is committed together, and nothing waits long for a start that is slow."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from outlast.core.output import committer as committer_module
from outlast.core.output.committer import Committer
from outlast.storage import AddProcess, Change
from outlast.storage.memory.storage import MemoryStorage
from outlast.testing.storage.samples import new_process
from tests.support.waiting import DEADLINE_S

STARTS = 8


class NotingStorage(MemoryStorage):
    """A storage that notes what is committed together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Change]] = []

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        self.batches.append(list(changes))
        return await super().commit(changes)


@pytest.fixture
async def storage() -> NotingStorage:
    return NotingStorage()


@pytest.fixture
async def committer(storage: NotingStorage) -> AsyncIterator[Committer]:
    committer = Committer(storage)
    committer.start()
    yield committer
    await committer.stop(10)


async def start(committer: Committer, change: AddProcess, turns: int) -> None:
    """Commit a change that comes after some turns of the event loop."""
    with committer.expecting():
        for _ in range(turns):
            await asyncio.sleep(0)
    await committer.commit(change)


async def test_starts_under_way_are_committed_together(
    committer: Committer, storage: NotingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "_GATHER_S", DEADLINE_S)
    changes = [new_process() for _ in range(STARTS)]
    await asyncio.gather(*(start(committer, change, 10 * number) for number, change in enumerate(changes)))
    assert storage.batches == [changes]


async def test_a_slow_start_delays_no_other_for_long(committer: Committer, storage: NotingStorage) -> None:
    change = new_process()
    with committer.expecting():  # all the time
        async with asyncio.timeout(DEADLINE_S):
            await committer.commit(change)
    assert storage.batches == [[change]]


async def test_a_start_that_fails_is_not_waited_for(
    committer: Committer, storage: NotingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "_GATHER_S", 10 * DEADLINE_S)

    async def fail() -> None:
        with committer.expecting():
            await asyncio.sleep(0)
            raise InterruptedError

    change = new_process()
    failing = asyncio.create_task(fail())
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        await committer.commit(change)
    assert storage.batches == [[change]]
    with pytest.raises(InterruptedError):
        await failing

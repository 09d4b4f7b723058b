"""The committer when its store fails: which callers fail, what is tried again, and how it recovers."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from outlast.core.output.committer import Committer
from outlast.model.errors import StorageError, StorageUnavailable
from outlast.model.output import ChunkQuery
from outlast.storage import Change, CompleteOutput, PurgeProcess
from outlast.testing.storage.faulty import Fault, FaultyStorage, Mode, inject
from outlast.testing.storage.samples import Output, added, end_of, new_process
from tests.support.waiting import eventually


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


@pytest.fixture
async def storage(control: Path) -> FaultyStorage:
    storage = FaultyStorage.from_url(f"faulty:{control}?memory:", durable=True)
    await storage.open()
    return storage


@pytest.fixture
async def committer(storage: FaultyStorage) -> AsyncIterator[Committer]:
    committer = Committer(storage)
    committer.start()
    yield committer
    await committer.stop(0)


every_failure = pytest.mark.parametrize("mode", [Mode.ERR, Mode.BREAK, Mode.TEAR])


async def commit_in_vain(committer: Committer, control: Path, mode: Mode) -> None:
    """Let the store fail while a caller waits for a commit, and assert that the caller fails."""
    inject(control, Fault(mode=mode))
    with pytest.raises(StorageUnavailable, match="injected"):
        await committer.commit(new_process())


@every_failure
async def test_a_caller_that_waits_for_a_commit_fails_with_it(committer: Committer, control: Path, mode: Mode) -> None:
    await commit_in_vain(committer, control, mode)
    assert committer.failure is not None


@every_failure
async def test_the_committer_recovers_with_its_store(committer: Committer, control: Path, mode: Mode) -> None:
    await commit_in_vain(committer, control, mode)
    inject(control, Fault())
    await eventually(lambda: committer.failure is None)  # though nothing is queued
    assert await committer.commit(new_process()) > 0


async def test_changes_submitted_during_a_fault_are_stored_in_order(
    committer: Committer, storage: FaultyStorage, control: Path
) -> None:
    output = Output(await added(storage))
    inject(control, Fault(mode=Mode.TEAR, part=1))
    done: list[int] = []

    def note(seq: int, _handle: int) -> None:
        done.append(seq)

    chunks = [output.chunk(b"%d\n" % n) for n in range(5)]
    for chunk in chunks:
        committer.submit(chunk, partial(note, chunk.first_seq))
    await eventually(lambda: committer.failure is not None)
    assert done == []
    inject(control, Fault())
    await committer.wait_until_idle()
    assert done == [1, 2, 3, 4, 5]
    assert await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 20)) == chunks


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BREAK])
async def test_a_rejected_change_drops_only_changes_of_its_process(
    committer: Committer, storage: FaultyStorage, control: Path, mode: Mode
) -> None:
    good, bad = Output(await added(storage)), Output(await added(storage))
    inject(control, Fault(mode=mode, handle=bad.handle))
    rejected: list[Change] = []
    committer.on_rejected = lambda change, _reason: rejected.append(change)
    done: list[Change] = []

    def note(change: Change, _handle: int) -> None:
        done.append(change)

    first = bad.chunk(b"bad\n")
    changes: list[Change] = [
        good.chunk(b"1\n"),
        first,
        end_of(bad.handle),
        CompleteOutput(bad.handle, 1),
        good.chunk(b"2\n"),
    ]
    for change in changes:
        committer.submit(change, partial(note, change))
    await committer.wait_until_idle()
    assert rejected == [first]
    assert done == [changes[0], changes[4]]
    assert committer.failure is None
    with pytest.raises(StorageError, match="rejects"):
        await committer.commit(end_of(bad.handle))
    await committer.commit(PurgeProcess(bad.handle))
    assert await storage.total() == 1

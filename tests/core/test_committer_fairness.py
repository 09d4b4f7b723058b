"""The committer when one change fails and others do not, and when only small changes find room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from outlast.core.output import committer as committer_module
from outlast.core.output.committer import Committer
from outlast.model.errors import StorageFull, StorageUnavailable
from outlast.model.output import Chunk, ChunkQuery
from outlast.storage import Change, PurgeProcess, Storage, WithdrawProcess, storage_from_url
from outlast.storage.wrapper import StorageWrapper
from outlast.testing.storage.samples import Output, added, end_of, new_process
from outlast.testing.storage.suite import read_lines
from tests.support.waiting import DEADLINE_S, eventually


class PickyStorage(StorageWrapper):
    """A store that raises what `refuse` returns for a batch, if that is an error."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.refuse: Callable[[Sequence[Change]], Exception | None] = lambda _changes: None
        self.problem: Exception | None = None
        self.batches: list[list[Change]] = []

    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> "PickyStorage":
        return cls(storage_from_url(url, durable=durable, compress_after_s=compress_after_s))

    async def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        error = self.refuse(changes)
        if error is not None:
            raise error
        self.batches.append(list(changes))
        return await self.inner.commit(changes)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[PickyStorage]:
    storage = PickyStorage.from_url(f"sqlite:///{tmp_path}/outlast.db", durable=False)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
async def committer(storage: PickyStorage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Committer]:
    monkeypatch.setattr(committer_module, "_RETRY_S", 0.01)
    committer = Committer(storage)
    committer.start()
    yield committer
    await committer.stop(0)


def refusal(changes: Sequence[Change], *, handle: int, error: Exception) -> Exception | None:
    return error if any(getattr(change, "handle", 0) == handle for change in changes) else None


ERRORS = [StorageUnavailable("an I/O error"), RuntimeError("a defect"), ValueError("a refusal")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_change_that_always_fails_holds_up_no_other(
    committer: Committer, storage: PickyStorage, error: Exception
) -> None:
    good, bad = Output(await added(storage)), Output(await added(storage))
    storage.refuse = partial(refusal, handle=bad.handle, error=error)
    rejected: list[Change] = []
    committer.on_rejected = lambda change, _reason: rejected.append(change)
    poison, end = bad.chunk(b"poison\n"), end_of(bad.handle)
    for change in (poison, good.chunk(b"1\n"), end, good.chunk(b"2\n")):
        committer.submit(change)
    await committer.wait_until_idle()
    assert len(rejected) == 1
    assert rejected[0] in (poison, end)
    assert committer.failure is None
    assert await read_lines(storage, good.handle) == [b"1\n", b"2\n"]
    await committer.commit(new_process())


async def test_a_change_that_always_fails_alone_lets_later_ones_pass(
    committer: Committer, storage: PickyStorage
) -> None:
    bad = Output(await added(storage))
    storage.refuse = partial(refusal, handle=bad.handle, error=StorageUnavailable("an I/O error"))
    committer.submit(bad.chunk(b"poison\n"))
    await committer.wait_until_idle()
    assert committer.failure is None
    await committer.commit(new_process())


@pytest.mark.parametrize("error", ERRORS[:2], ids=lambda error: type(error).__name__)
async def test_a_store_that_fails_blames_no_change(
    committer: Committer, storage: PickyStorage, error: Exception
) -> None:
    outputs = [Output(await added(storage)) for _ in range(3)]
    attempts = 0

    def refuse(_changes: Sequence[Change]) -> Exception:
        nonlocal attempts
        attempts += 1
        return error

    storage.refuse = refuse
    rejected: list[Change] = []
    committer.on_rejected = lambda change, _reason: rejected.append(change)
    for output in outputs:
        committer.submit(output.chunk(b"x\n"))
    await eventually(lambda: attempts > 20)
    assert committer.failure is not None
    storage.refuse = lambda _changes: None
    await committer.wait_until_idle()
    assert rejected == []
    for output in outputs:
        assert await read_lines(storage, output.handle) == [b"x\n"]


async def test_a_purge_that_fails_is_tried_again_later(
    committer: Committer, storage: PickyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "_POSTPONE_S", 0.05)
    kept = new_process()
    withdrawn, purged = new_process(), await added(storage)
    await storage.commit([kept, withdrawn])
    refused = 0

    def refuse(changes: Sequence[Change]) -> Exception | None:
        nonlocal refused
        if refused < 20 and any(isinstance(change, PurgeProcess | WithdrawProcess) for change in changes):
            refused += 1
            return StorageUnavailable("no temporary folder")
        return None

    storage.refuse = refuse
    committer.submit(PurgeProcess(purged))
    committer.submit(WithdrawProcess(withdrawn.spec.id))
    await committer.wait_until_idle()
    await committer.commit(end_of(1))  # others are not delayed
    await eventually(lambda: refused == 20)

    async def only_one_is_left() -> bool:
        return await storage.total() == 1

    await eventually(only_one_is_left)


async def test_ends_and_purges_pass_while_output_finds_no_room(committer: Committer, storage: PickyStorage) -> None:
    ended, purged = Output(await added(storage)), Output(await added(storage))

    def refuse(changes: Sequence[Change]) -> Exception | None:
        freed = {change.handle for change in changes if isinstance(change, PurgeProcess)}
        has_output = any(isinstance(change, Chunk) and change.handle not in freed for change in changes)
        return StorageFull("no room") if has_output or not changes else None

    storage.refuse = refuse
    done: list[str] = []
    chunk = ended.chunk(b"kept\n")
    committer.submit(chunk, lambda _handle: done.append("output"))
    committer.submit(purged.chunk(b"dropped\n"), lambda _handle: done.append("purged output"))
    await eventually(lambda: committer.failure is not None)
    committer.submit(end_of(ended.handle), lambda _handle: done.append("end"))
    await committer.commit(PurgeProcess(purged.handle))
    await eventually(lambda: sorted(done) == ["end", "purged output"])
    assert await storage.total() == 1
    process = await storage.process(ended.handle)
    assert process is not None
    assert process.run.ending == end_of(ended.handle).ending
    assert committer.failure == "no room"  # output is still waiting
    storage.refuse = lambda _changes: None
    await committer.wait_until_idle()
    assert await storage.chunks(ChunkQuery(handle=ended.handle, max_bytes=9)) == [chunk]


def _has_output(changes: Sequence[Change]) -> bool:
    return any(isinstance(change, Chunk) for change in changes)


async def test_a_purge_beside_output_that_finds_no_room_is_tried_without_it(
    committer: Committer, storage: PickyStorage
) -> None:
    """Until that moment the store could commit, so both are in one batch."""
    printing, purged = Output(await added(storage)), await added(storage)
    storage.refuse = lambda changes: StorageFull("no room") if _has_output(changes) or not changes else None
    chunk = printing.chunk(b"kept\n")
    committer.submit(chunk)
    await committer.commit(PurgeProcess(purged))
    assert storage.batches[-1] == [PurgeProcess(purged)]
    storage.refuse = lambda _changes: None
    await committer.wait_until_idle()
    assert storage.batches[-1] == [chunk]


async def test_a_purge_that_finds_no_room_alone_fails(committer: Committer, storage: PickyStorage) -> None:
    printing, purged = Output(await added(storage)), await added(storage)
    storage.refuse = lambda _changes: StorageFull("no room")
    committer.submit(printing.chunk(b"kept\n"))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StorageUnavailable):
            await committer.commit(PurgeProcess(purged))
    storage.refuse = lambda _changes: None
    await committer.wait_until_idle()
    assert await storage.total() == 2


async def test_what_follows_a_commit_may_fail(committer: Committer, storage: PickyStorage) -> None:
    output = Output(await added(storage))

    def fail(_handle: int) -> None:
        raise KeyError("a defect")

    done: list[int] = []
    committer.submit(output.chunk(b"1\n"), fail)
    committer.submit(output.chunk(b"2\n"), done.append)
    await committer.wait_until_idle()
    assert done == [0]
    await committer.commit(new_process())


async def test_a_store_at_rest_is_checked(storage: PickyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "PROBE_S", 0.02)
    committer = Committer(storage)
    committer.start()
    storage.problem = StorageUnavailable("gone")
    storage.refuse = lambda _changes: storage.problem
    await eventually(lambda: committer.failure == "gone")
    storage.problem = None
    await eventually(lambda: committer.failure is None)
    await committer.stop(0)


async def test_a_caller_is_told_of_a_full_disk_however_much_is_queued_before_its_change(
    committer: Committer, storage: PickyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "BATCH_BYTES", 10)
    output = Output(await added(storage))
    storage.refuse = lambda changes: StorageFull("full") if changes else None
    for _ in range(100):
        committer.submit(output.chunk(b"0123456789\n"))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StorageUnavailable):
            await committer.commit(new_process())
    storage.refuse = lambda _changes: None
    await committer.wait_until_idle()
    assert len(await read_lines(storage, output.handle)) == 100


async def test_a_full_disk_takes_what_fits_into_it(
    committer: Committer, storage: PickyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "_RETRY_S", 0)
    output = Output(await added(storage))
    storage.refuse = lambda changes: StorageFull("no room") if _output_bytes(changes) > 20 else None
    for _ in range(100):
        committer.submit(output.chunk(b"0123456789\n"))
    async with asyncio.timeout(DEADLINE_S):
        await committer.wait_until_idle()
    assert len(await read_lines(storage, output.handle)) == 100
    assert committer.failure is None


def _output_bytes(changes: Sequence[Change]) -> int:
    return sum(len(change.data) for change in changes if isinstance(change, Chunk))

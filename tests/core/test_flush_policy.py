"""The flush policy: output without followers is held back for a while; what somebody waits for never is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from outlast.core.commands.start_request import StartRequest
from outlast.core.manager import ProcessManager
from outlast.core.output import flush_policy
from outlast.core.output.committer import Committer
from outlast.core.query.output_cursor import OutputQuery
from outlast.core.supervision.supervisor import BufferLimits
from outlast.model.output import Position
from outlast.model.process import StdinMode
from outlast.storage import Change
from outlast.storage.memory.storage import MemoryStorage
from outlast.testing.storage.samples import Output, added, end_of
from tests.support.waiting import eventually

LIMITS = BufferLimits(process_bytes=1 << 20, memory_bytes=1 << 20, spool_bytes=1 << 20)


class CostlyStorage(MemoryStorage):
    """A storage whose commits are slow, so that the pause after each is longer than the test."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Change]] = []

    async def commit(self, changes: Sequence[Change]) -> Mapping[str, int]:
        await asyncio.sleep(0.1)
        self.batches.append(list(changes))
        return await super().commit(changes)


@pytest.fixture(autouse=True)
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush_policy, "MAX_PAUSE_S", 1000.0)


@pytest.fixture
async def storage() -> CostlyStorage:
    return CostlyStorage()


@pytest.fixture
async def committer(storage: CostlyStorage) -> AsyncIterator[Committer]:
    committer = Committer(storage, hold_back_bytes=10_000)
    committer.start()
    yield committer
    await committer.stop(10)


class Printer:
    """A process that prints, and knows which of its chunks are stored."""

    def __init__(self, committer: Committer, handle: int) -> None:
        self.handle = handle
        self.printed: list[Change] = []
        self.stored: list[Change] = []
        self._committer = committer
        self._output = Output(handle)

    def print(self, data: bytes, *, is_awaited: bool = False) -> None:
        chunk = self._output.chunk(data)
        self.printed.append(chunk)
        self._committer.submit(chunk, lambda _handle: self.stored.append(chunk), is_awaited=is_awaited)

    def all_is_stored(self) -> bool:
        return self.stored == self.printed


@pytest.fixture
async def printer(committer: Committer, storage: CostlyStorage) -> Printer:
    """A process whose first line is stored, and whose second line is held back."""
    printer = Printer(committer, await added(storage))
    printer.print(b"first\n")
    await eventually(printer.all_is_stored)
    printer.print(b"second\n")
    await run_ready_tasks()
    assert not printer.all_is_stored()
    return printer


async def run_ready_tasks() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_held_back_output_is_committed_with_a_change_that_is_waited_for(
    committer: Committer, storage: CostlyStorage, printer: Printer
) -> None:
    printer.print(b"third\n")
    end = end_of(printer.handle)
    await committer.commit(end)
    assert storage.batches[2:] == [[*printer.printed[1:], end]]


def fill_hold_back_bytes(_committer: Committer, printer: Printer) -> None:
    for _ in range(10):
        printer.print(b"x" * 1000 + b"\n")


REASONS: dict[str, Callable[[Committer, Printer], object]] = {
    "an end": lambda committer, printer: committer.submit(end_of(printer.handle)),
    "a part of a line": lambda committer, _printer: committer.flush_now(),
    "much output": fill_hold_back_bytes,
}


@pytest.mark.parametrize("reason", REASONS)
async def test_reasons_to_commit_at_once(committer: Committer, printer: Printer, reason: str) -> None:
    REASONS[reason](committer, printer)
    await eventually(printer.all_is_stored)


WAITERS: dict[str, Callable[[Committer], Awaitable[None]]] = {
    "a reader": Committer.catch_up,
    "shutdown": Committer.wait_until_idle,
    "the end of the daemon": lambda committer: committer.stop(10),
}


@pytest.mark.parametrize("waiter", WAITERS)
async def test_every_kind_of_waiting_commits_held_back_output(
    committer: Committer, printer: Printer, waiter: str
) -> None:
    async with asyncio.timeout(10):
        await WAITERS[waiter](committer)
    assert printer.all_is_stored()


async def test_waiting_until_idle_during_the_last_commit(committer: Committer, printer: Printer) -> None:
    committer.flush_now()
    await run_ready_tasks()
    async with asyncio.timeout(10):
        await committer.wait_until_idle()
    assert printer.all_is_stored()


async def test_output_of_a_watched_process_is_not_held_back(
    committer: Committer, storage: CostlyStorage, printer: Printer
) -> None:
    with committer.watching(printer.handle):
        await eventually(printer.all_is_stored)  # what was held back before
        printer.print(b"third\n")
        await eventually(printer.all_is_stored)
    printer.print(b"fourth\n")
    await run_ready_tasks()
    end = end_of(printer.handle)
    await committer.commit(end)
    assert storage.batches[-1] == [printer.printed[-1], end]


async def test_followed_output_gathers_unless_followers_wait_for_it(
    committer: Committer, printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush_policy, "FOLLOWED_PAUSE_S", 1000.0)
    with committer.watching(printer.handle):
        await eventually(printer.all_is_stored)
        printer.print(b"third\n")
        await asyncio.sleep(0.2)
        assert not printer.all_is_stored()
        printer.print(b"name? ", is_awaited=True)
        await eventually(printer.all_is_stored)


async def test_what_followers_have_seen_is_stored_before_a_read(
    committer: Committer, storage: CostlyStorage, printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what has come during a commit."""
    monkeypatch.setattr(flush_policy, "FOLLOWED_PAUSE_S", 1000.0)
    with committer.watching(printer.handle):
        await eventually(printer.all_is_stored)
        printer.print(b"third\n")
        committer.flush_now()
        batches = len(storage.batches)
        await run_ready_tasks()
        printer.print(b"fourth\n")
        await committer.catch_up()
        assert printer.all_is_stored()
        assert len(storage.batches) == batches + 2


async def test_what_was_read_before_somebody_followed_is_stored_before_a_read(
    committer: Committer, printer: Printer
) -> None:
    with committer.watching(printer.handle):
        await run_ready_tasks()  # the commit has begun
        assert not printer.all_is_stored()
        await committer.catch_up()
        assert printer.all_is_stored()


async def test_no_read_waits_for_what_the_store_has_rejected(committer: Committer, printer: Printer) -> None:
    rejected: list[Change] = []
    committer.on_rejected = lambda change, _why: rejected.append(change)
    output = Output(printer.handle, Position(last_seq=98))
    with committer.watching(printer.handle):
        await eventually(printer.all_is_stored)
        committer.submit(output.chunk(b"not the next\n"))
        committer.flush_now()
        await run_ready_tasks()
        committer.submit(output.chunk(b"behind it\n"))
        await eventually(lambda: rejected)
        async with asyncio.timeout(0.5):
            await committer.catch_up()


async def test_output_is_held_back_for_a_limited_time(
    committer: Committer, printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush_policy, "MAX_PAUSE_S", 0.05)
    committer.flush_now()
    await eventually(printer.all_is_stored)
    printer.print(b"third\n")
    await eventually(printer.all_is_stored)


async def test_a_follower_gets_held_back_lines(storage: CostlyStorage, state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    manager = ProcessManager(storage, state_dir, LIMITS)
    await manager.open()
    try:
        process = (await manager.start(StartRequest(command="cat", stdin_mode=StdinMode.PIPE))).view.process
        await manager.write_stdin(process.spec.id, pieces(b"before\n"))
        got: list[bytes] = []

        async def follow() -> None:
            async for chunk in manager.follow(process, OutputQuery(), heartbeat_s=60):
                assert chunk is not None
                got.append(chunk.data)

        following = asyncio.create_task(follow())
        await eventually(lambda: got == [b"before\n"])
        await manager.write_stdin(process.spec.id, pieces(b"after\n"))
        await eventually(lambda: got == [b"before\n", b"after\n"])
        following.cancel()
    finally:
        await manager.shutdown(0)
        await manager.close()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data

"""Search: pages join without loss or repeat, whatever ends them, and searches block nothing else."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from outlast.core.query.matcher import Span, make_matcher
from outlast.core.query.queries import Queries
from outlast.core.query.search import SearchPage, SearchQuery
from outlast.model.output import Stream
from outlast.model.process import Order
from outlast.model.scan import ScanPage, ScanQuery
from outlast.storage import Storage, storage_from_url
from outlast.storage.base import PurgeProcess
from outlast.testing.storage.samples import Output, added
from tests.support.waiting import DEADLINE_S, eventually

MANY = 3000  # more lines than are searched between two checks of the deadline


@dataclass
class PiecewiseStorage:
    """A storage that returns at most `max_bytes` in a piece, and counts the pieces."""

    storage: Storage
    max_bytes: int = 1 << 20
    scans: int = 0

    async def scan(self, scan: ScanQuery) -> ScanPage:
        self.scans += 1
        return await self.storage.scan(replace(scan, max_bytes=self.max_bytes))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


@dataclass
class Everything:
    """A matcher of every line that counts its calls. `resume`: blocks the threads until it is set."""

    calls: int = 0
    threads: set[str] = field(default_factory=set)
    resume: threading.Event | None = None

    def may_match(self, data: bytes) -> bool:
        return bool(data)

    def matches(self, line: bytes) -> bool:
        del line
        assert threading.current_thread() is not threading.main_thread(), "the event loop must not be blocked"
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        if self.resume is not None:
            assert self.resume.wait(DEADLINE_S)
        return True

    def spans(self, line: bytes) -> list[Span]:
        return [(0, len(line))]


@pytest.fixture
async def pieces() -> PiecewiseStorage:
    storage = storage_from_url("memory:")
    await storage.open()
    return PiecewiseStorage(storage)


@pytest.fixture
def queries(pieces: PiecewiseStorage) -> Any:
    queries = Queries(cast("Storage", pieces))
    yield queries
    queries.close()


async def written(storage: Storage) -> list[tuple[int, int, bytes]]:
    """Let three processes print in turn, and return all their lines in the order in which they are stored."""
    outputs = [Output(await added(storage)) for _ in range(3)]
    lines: list[tuple[int, int, bytes]] = []
    for number in range(4):
        for output in outputs:
            data = b"%d\n\n\n" % number + (b"end" if number % 2 else b"x\n" * (MANY if number == 2 else 1))
            chunk = output.chunk(data, Stream(1 + number % 2))
            await storage.commit([chunk])
            lines += [(output.handle, seq, line) for seq, line in enumerate(chunk.lines(), chunk.first_seq)]
    return lines


async def joined(queries: Queries, query: SearchQuery, most_pages: int) -> list[tuple[int, int, bytes]]:
    """Search page by page."""
    lines: list[tuple[int, int, bytes]] = []
    for _ in range(most_pages):
        page = await queries.search(query)
        assert len(page.matches) <= query.limit
        assert page.complete or page.next is not None
        lines += [(match.process.handle, match.seq, match.data) for match in page.matches]
        if page.next is None:
            return lines
        position, seq = page.next
        query = replace(query, position=position, seq=seq)
    raise AssertionError(f"there are more than {most_pages} pages")


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(
    ("max_bytes", "limit", "timeout_s"), [(1, 1000, 60.0), (1, 1000, 0.0), (1 << 20, 1000, 0.0), (10, 61, 60.0)]
)
async def test_pages_join_without_loss_or_repeat(
    pieces: PiecewiseStorage, queries: Queries, order: Order, max_bytes: int, limit: int, timeout_s: float
) -> None:
    """A page ends when it is full, or when its time is over; in both cases the search has made progress."""
    pieces.max_bytes = max_bytes
    lines = await written(pieces.storage)
    query = SearchQuery(matcher=Everything(), order=order, limit=limit, timeout_s=timeout_s)
    most = 2 + len(lines) // min(limit, MANY // 3) + (24 if timeout_s == 0 else 0)
    async with asyncio.timeout(DEADLINE_S):
        found = await joined(queries, query, most)
    assert found == (lines if order is Order.OLDEST else lines[::-1])


@pytest.fixture
async def many_lines(pieces: PiecewiseStorage) -> None:
    output = Output(await added(pieces.storage))
    await pieces.storage.commit([output.chunk(b"\n" * 100_000)])


@pytest.mark.parametrize("order", Order)
@pytest.mark.usefixtures("many_lines")
async def test_a_search_examines_no_line_beyond_its_limit(queries: Queries, order: Order) -> None:
    limited = Everything()
    page = await queries.search(SearchQuery(matcher=limited, order=order, limit=3))
    assert (len(page.matches), page.complete, limited.calls) == (3, True, 3)


@pytest.mark.parametrize("order", Order)
@pytest.mark.usefixtures("many_lines")
async def test_a_search_examines_few_lines_after_its_timeout(queries: Queries, order: Order) -> None:
    late = Everything()
    page = await queries.search(SearchQuery(matcher=late, order=order, limit=100_000, timeout_s=0))
    assert not page.complete
    assert 0 < late.calls < 3000


async def test_a_page_has_a_limited_size(pieces: PiecewiseStorage, queries: Queries) -> None:
    output = Output(await added(pieces.storage))
    for _ in range(12):
        await pieces.storage.commit([output.chunk(b"x" * (1 << 20) + b"\n")])
    page = await queries.search(SearchQuery(matcher=make_matcher("x", "q", is_regex=False)))
    assert (len(page.matches), page.complete) == (4, True)
    assert page.next is not None


async def test_a_process_purged_during_a_search_is_not_found(pieces: PiecewiseStorage, queries: Queries) -> None:
    """The page is filled with the lines that follow."""
    gone, kept = [Output(await added(pieces.storage)) for _ in range(2)]
    await pieces.storage.commit([kept.chunk(b"a\n" * 3), gone.chunk(b"b\n" * 3)])
    waits = Everything(resume=threading.Event())
    assert waits.resume is not None
    search = asyncio.create_task(queries.search(SearchQuery(matcher=waits, limit=2)))
    await eventually(lambda: waits.calls)
    await pieces.storage.commit([PurgeProcess(gone.handle)])
    waits.resume.set()
    assert [match.data for match in (await search).matches] == [b"a\n"] * 2


@dataclass
class BusySearches:
    """Six searches for every line, of which two examine lines and the others wait."""

    queries: Queries
    matcher: Everything
    tasks: list["asyncio.Task[SearchPage]"] = field(default_factory=list)

    def search(self, timeout_s: float, position: int = 0) -> "asyncio.Task[SearchPage]":
        query = SearchQuery(
            matcher=self.matcher, limit=20_000, timeout_s=timeout_s, position=position, seq=2 * position
        )
        return asyncio.create_task(self.queries.search(query))


@asynccontextmanager
async def busy_searches(queries: Queries) -> AsyncIterator[BusySearches]:
    """Block two searches within the block; all that are not cancelled are complete after it."""
    resume = threading.Event()
    busy = BusySearches(queries, Everything(resume=resume))
    busy.tasks += [busy.search(600) for _ in range(6)]
    try:
        await eventually(lambda: busy.matcher.calls >= 2)
        yield busy
    finally:
        resume.set()
        await asyncio.wait(busy.tasks)


async def test_searches_use_two_threads_of_their_own(pieces: PiecewiseStorage, queries: Queries) -> None:
    """Searches block neither the event loop nor other threads."""
    lines = await written(pieces.storage)
    async with busy_searches(queries) as busy:
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(8)))
        assert (pieces.scans, busy.matcher.calls) == (2, 2)
    for task in busy.tasks:
        assert [match.data for match in (await task).matches] == [line for _, _, line in lines[::-1]]
    assert busy.matcher.threads == {"search_0", "search_1"}


async def test_a_search_that_waits_for_a_thread_ends_at_its_timeout(pieces: PiecewiseStorage, queries: Queries) -> None:
    await written(pieces.storage)
    async with busy_searches(queries) as busy:
        for position in (0, 5):
            page = await busy.search(0.01, position)
            assert (list(page.matches), page.next, page.complete) == ([], (position, 2 * position), False)
        assert pieces.scans == 2, "a search that waits holds nothing in memory"


async def test_a_cancelled_search_keeps_its_thread_until_it_ends(pieces: PiecewiseStorage, queries: Queries) -> None:
    lines = await written(pieces.storage)
    async with busy_searches(queries) as busy:
        for task in busy.tasks[:2]:
            task.cancel()
        await asyncio.wait(busy.tasks[:2])
        assert not (await busy.search(0.01)).complete
        assert (pieces.scans, busy.matcher.calls) == (2, 2)
    for task in busy.tasks[2:]:
        assert [match.data for match in (await task).matches] == [line for _, _, line in lines[::-1]]
    assert busy.matcher.threads == {"search_0", "search_1"}


async def test_waits_use_two_threads_of_their_own(queries: Queries) -> None:
    chunk = Output(1).chunk(b"x\n")

    async def chunks() -> Any:
        yield chunk

    slow = Everything(resume=threading.Event())
    assert slow.resume is not None
    waits = [asyncio.create_task(queries.wait_for_line(chunks(), slow)) for _ in range(6)]
    try:
        await eventually(lambda: slow.calls >= 2)
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(8)))
        assert slow.calls == 2
    finally:
        slow.resume.set()
    found = await asyncio.gather(*waits)
    assert [line and line.data for line in found] == [b"x\n"] * 6
    assert slow.threads == {"wait_0", "wait_1"}

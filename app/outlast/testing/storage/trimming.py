"""Conformance tests of trimming: the oldest output of a process goes, and everything that reads it says so."""

from dataclasses import replace

from outlast.model.event import EventFilter, EventType
from outlast.model.histogram import HistogramQuery
from outlast.model.options import Keep, Options
from outlast.model.output import Chunk, ChunkQuery, GapReason, Stream, TrimGap, Trimmed
from outlast.model.process import Order
from outlast.model.retention import END_LINES, Holding, HoldingQuery, Rule, TrimQuery
from outlast.model.scan import ScanQuery
from outlast.storage.base import AddEvent, AddProcess, PurgeProcess, Storage, TrimOutput
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from outlast.testing.storage.suite import EVERYTHING_BYTES, StorageSuite, read_lines

_LINE = b"123456789\n"
_LARGE = b"large output, which is a row of its own\n" * 2000


async def _printed(storage: Storage, count: int, *, handle: int | None = None) -> Output:
    """Store chunks of 2000 lines that are too large to be merged, a second apart, and return their source."""
    output = Output(handle or await added(storage))
    for n in range(count):
        await storage.commit([output.chunk(_LARGE, ts_ms=EPOCH_MS + 1000 * n)])
    return output


async def _trimmed(storage: Storage, handle: int, upto_seq: int) -> Trimmed:
    """Trim output, and return what is trimmed of it."""
    await storage.commit([TrimOutput(handle, upto_seq, EPOCH_MS, Rule.TOTAL_BYTES)])
    process = await storage.process(handle)
    assert process is not None
    assert process.output.trimmed is not None
    return process.output.trimmed


async def _all(
    storage: Storage,
    handle: int,
    *,
    after_seq: int = 0,
    stream: Stream | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[Chunk]:
    query = ChunkQuery(
        handle=handle,
        max_bytes=EVERYTHING_BYTES,
        after_seq=after_seq,
        stream=stream,
        since_ms=since_ms,
        until_ms=until_ms,
    )
    return await storage.chunks(query)


def kept(keep: Keep | None) -> AddProcess:
    """Return the change that adds a process whose start says `keep`."""
    change = new_process()
    return AddProcess(replace(change.spec, options=Options(keep=keep)), change.run)


class TrimmingConformance(StorageSuite):
    """The contract's promises about output that is deleted while its process stays."""

    async def test_trimmed_output_is_a_gap(self, storage: Storage) -> None:
        """Deleted output is told with its numbers, lines, bytes and time, and the rest is read as before."""
        output = await _printed(storage, 4)
        trimmed = await _trimmed(storage, output.handle, 4000)
        assert trimmed == Trimmed(last_seq=4000, lines=4000, bytes=2 * len(_LARGE), until_ms=EPOCH_MS + 1000)
        gap, *chunks = await _all(storage, output.handle, after_seq=10)
        assert isinstance(gap, TrimGap)
        assert (gap.first_seq, gap.last_seq, gap.gap, gap.data) == (11, 4000, GapReason.RETENTION, b"")
        assert gap.trimmed == trimmed
        assert [chunk.first_seq for chunk in chunks] == [4001, 6001]
        assert [chunk.first_seq for chunk in await _all(storage, output.handle, after_seq=4000)] == [4001, 6001]
        process = await storage.process(output.handle)
        assert process is not None
        summary = process.output
        assert (summary.lines, summary.bytes) == (4000, 2 * len(_LARGE))
        assert (summary.first_seq, summary.last_seq) == (4001, 8000)

    async def test_no_more_is_trimmed_than_was_asked_for(self, storage: Storage) -> None:
        """A number within what is stored as a whole is taken for the end of what comes before it."""
        output = await _printed(storage, 3)
        assert (await _trimmed(storage, output.handle, 2000)).last_seq == 2000
        for upto in (3999, 2000, 1):
            assert (await _trimmed(storage, output.handle, upto)).last_seq == 2000
        assert (await _trimmed(storage, output.handle, 4001)).last_seq == 4000

    async def test_output_goes_on_after_all_of_it_was_trimmed(self, storage: Storage) -> None:
        """Numbers and positions continue, though nothing is left."""
        output = await _printed(storage, 2)
        await storage.commit([output.chunk(b"error\n", Stream.STDERR), output.gap(7)])
        trimmed = await _trimmed(storage, output.handle, 1 << 40)
        assert trimmed.last_seq == 4002
        assert await storage.position(output.handle) == output.position
        process = await storage.process(output.handle)
        assert process is not None
        assert (process.output.lines, process.output.bytes) == (0, 0)
        assert (process.output.first_seq, process.output.last_seq) == (4003, 4002)
        (gap,) = await _all(storage, output.handle)
        assert (gap.first_seq, gap.last_seq) == (1, 4002)
        later = [output.chunk(b"more\n"), output.chunk(b"errors\n", Stream.STDERR)]
        await storage.commit(later)
        assert (await _all(storage, output.handle))[1:] == later

    async def test_the_rest_of_a_trimmed_line_is_accepted(self, storage: Storage) -> None:
        """The unfinished line of a stream may be trimmed when its rest comes."""
        output = await _printed(storage, 1)
        await storage.commit([output.chunk(b"name? ", Stream.STDERR), *[output.chunk(_LARGE) for _ in range(2)]])
        trimmed = await _trimmed(storage, output.handle, output.position.last_seq - 2000)
        assert trimmed.lines == 4001
        assert await storage.position(output.handle) == output.position
        rest = output.chunk(b"Bob\n", Stream.STDERR, continues=True)
        await storage.commit([rest])
        query = ChunkQuery(handle=output.handle, after_seq=rest.first_seq - 1, max_bytes=100, whole_lines=True)
        assert [chunk.data for chunk in await storage.chunks(query)] == [b"Bob\n"]

    async def test_a_line_across_the_cut_stays(self, storage: Storage) -> None:
        """A line of which a part is left is still a line."""
        output = await _printed(storage, 1)
        await storage.commit([output.chunk(_LARGE + b"half")])
        await storage.commit([output.chunk(b" and half\n" + _LARGE, continues=True)])
        trimmed = await _trimmed(storage, output.handle, 4001)
        process = await storage.process(output.handle)
        assert process is not None
        assert (trimmed.lines, process.output.lines) == (4000, 2001)
        counted = await storage.histogram(HistogramQuery(handle=output.handle, buckets=3))
        assert (sum(counted.lines), counted.trimmed) == (2001, trimmed)

    async def test_conditions_select_the_gap(self, storage: Storage) -> None:
        """Both streams have the gap; a time behind it has none."""
        output = await _printed(storage, 3)
        await storage.commit([output.chunk(b"error\n", Stream.STDERR, ts_ms=EPOCH_MS + 9000)])
        await _trimmed(storage, output.handle, 2000)
        assert [chunk.first_seq for chunk in await _all(storage, output.handle, stream=Stream.STDERR)] == [1, 6001]
        since = await _all(storage, output.handle, since_ms=EPOCH_MS)
        assert [chunk.first_seq for chunk in since] == [1, 2001, 4001, 6001]
        since = await _all(storage, output.handle, since_ms=EPOCH_MS + 1)
        assert [chunk.first_seq for chunk in since] == [2001, 4001, 6001]
        until = await _all(storage, output.handle, until_ms=EPOCH_MS + 1000)
        assert [chunk.first_seq for chunk in until] == [1, 2001]

    async def test_a_tail_counts_what_is_there(self, storage: Storage) -> None:
        """A tail within what is left tells of no gap; a longer one does."""
        output = await _printed(storage, 2)
        await _trimmed(storage, output.handle, 2000)
        after = await storage.tail(output.handle, 5)
        assert (after, len(await read_lines(storage, output.handle, after=after))) == (3995, 5)
        after = await storage.tail(output.handle, 2001)
        assert isinstance((await _all(storage, output.handle, after_seq=after))[0], TrimGap)

    async def test_a_tail_before_a_line_ends_at_the_cut(self, storage: Storage) -> None:
        """Fewer lines than are asked for: `chunks` gives all of them, and tells what is gone."""
        output = await _printed(storage, 3)
        await _trimmed(storage, output.handle, 2000)
        assert await storage.tail(output.handle, 5, before=2011) == 2005
        for before in (2004, 2001, 1000):
            assert await storage.tail(output.handle, 5, before=before) == 0
        gap = (await _all(storage, output.handle))[0].first(999)
        assert isinstance(gap, TrimGap)
        assert (gap.first_seq, gap.last_seq) == (1, 999)

    async def test_lines_are_counted_by_time_behind_the_cut(self, storage: Storage) -> None:
        """Neither the lines that are gone nor their times count."""
        output = await _printed(storage, 3)
        await _trimmed(storage, output.handle, 2000)
        found = await storage.histogram(HistogramQuery(handle=output.handle, buckets=1001))
        assert (found.from_ms, found.lines[0], found.lines[-1]) == (EPOCH_MS + 1000, 2000, 2000)
        assert sum(found.lines) == 4000
        await _trimmed(storage, output.handle, 6000)
        assert sum((await storage.histogram(HistogramQuery(handle=output.handle, buckets=3))).lines) == 0

    async def test_a_scan_passes_over_trimmed_output(self, storage: Storage) -> None:
        """Searches find what is left, and can tell that something is missing."""
        output, other = await _printed(storage, 3), await _printed(storage, 1)
        assert not await storage.has_trimmed()
        await _trimmed(storage, output.handle, 2000)
        for order in Order:
            page = await storage.scan(ScanQuery(order=order, handle=output.handle))
            assert sorted(chunk.first_seq for _, chunk in page.chunks) == [2001, 4001]
        assert {chunk.handle for _, chunk in (await storage.scan(ScanQuery())).chunks} == {output.handle, other.handle}
        assert await storage.has_trimmed()
        assert await storage.has_trimmed(handle=output.handle, since_ms=EPOCH_MS)
        assert not await storage.has_trimmed(since_ms=EPOCH_MS + 1)
        assert not await storage.has_trimmed(handle=other.handle)

    async def test_a_purge_forgets_what_was_trimmed(self, storage: Storage) -> None:
        """Nothing is left of a purged process, and a trim of it changes nothing."""
        output = await _printed(storage, 2)
        await _trimmed(storage, output.handle, 2000)
        await storage.commit([PurgeProcess(output.handle), TrimOutput(output.handle, 4000, EPOCH_MS, Rule.TOTAL_BYTES)])
        assert await _all(storage, output.handle) == []
        assert not await storage.has_trimmed()
        assert await storage.held_bytes() == 0

    async def test_the_largest_come_first(self, storage: Storage) -> None:
        """The holding of a process shrinks when it is trimmed; a start may take its process out."""
        small, large = await _printed(storage, 1), await _printed(storage, 4)
        always, own = [
            await _printed(storage, count, handle=await added(storage, kept(keep)))
            for keep, count in ((Keep(always=True), 3), (Keep(bytes=5), 2))
        ]

        async def order(rule: Rule | None) -> list[int]:
            return [holding.handle for holding in await storage.holdings(HoldingQuery(rule=rule))]

        assert await order(Rule.TOTAL_BYTES) == [large.handle, own.handle, small.handle]
        assert await order(Rule.PROCESS_BYTES) == [large.handle, always.handle, small.handle]
        assert await order(None) == [always.handle, own.handle]
        (first,) = await storage.holdings(HoldingQuery(limit=1))
        assert first == Holding(handle=always.handle, bytes=first.bytes, oldest_ms=EPOCH_MS, keep=Keep(always=True))
        held = await storage.held_bytes(small.handle)
        assert held > 0
        assert 6 * held < await storage.held_bytes() < 8 * held
        await _trimmed(storage, large.handle, 8000)
        assert await storage.held_bytes(large.handle) == 0
        above = await storage.holdings(HoldingQuery(rule=Rule.TOTAL_BYTES, above_bytes=held))
        assert [holding.handle for holding in above] == [own.handle]

    async def test_the_oldest_come_first(self, storage: Storage) -> None:
        """The first line that is left tells how old the output of a process is."""
        first = Output(await added(storage))
        second, own = Output(await added(storage)), Output(await added(storage, kept(Keep(output_s=1))))
        for n, output in enumerate((second, first, own, second, first)):
            await storage.commit([output.chunk(_LARGE, ts_ms=EPOCH_MS + 1000 * n)])

        async def oldest(before_ms: int) -> list[tuple[int, int | None]]:
            query = HoldingQuery(rule=Rule.OUTPUT_S, before_ms=EPOCH_MS + before_ms)
            return [(holding.handle, holding.oldest_ms) for holding in await storage.holdings(query)]

        assert await oldest(1001) == [(second.handle, EPOCH_MS), (first.handle, EPOCH_MS + 1000)]
        assert await oldest(1000) == [(second.handle, EPOCH_MS)]
        await _trimmed(storage, second.handle, 2000)
        assert await oldest(9000) == [(first.handle, EPOCH_MS + 1000), (second.handle, EPOCH_MS + 3000)]
        await _trimmed(storage, second.handle, 4000)
        assert await oldest(9000) == [(first.handle, EPOCH_MS + 1000)]

    async def test_where_to_cut(self, storage: Storage) -> None:
        """As many bytes as are asked for, or what is old, but the last of the output only if that is meant."""
        output = await _printed(storage, 4)
        held = await storage.held_bytes(output.handle)
        query = TrimQuery(handle=output.handle)

        async def upto(query: TrimQuery) -> int | None:
            point = await storage.trim_point(query)
            assert point is None or 0 < point.bytes <= held
            return point.upto_seq if point else None

        assert await upto(replace(query, free_bytes=1)) == 2000
        assert await upto(replace(query, free_bytes=held // 4 + 1)) == 4000
        assert await upto(replace(query, free_bytes=held)) == 6000
        assert await upto(replace(query, free_bytes=held, takes_all=True)) == 8000
        assert await upto(replace(query, before_ms=EPOCH_MS)) is None
        assert await upto(replace(query, before_ms=EPOCH_MS + 1001)) == 4000
        assert await upto(replace(query, before_ms=EPOCH_MS + 3001)) == 8000
        assert await upto(replace(query, before_ms=EPOCH_MS + 9000, spares_end=True)) == 6000
        await _trimmed(storage, output.handle, 2000)
        assert await upto(replace(query, free_bytes=1)) == 4000
        assert await storage.trim_point(TrimQuery(handle=99, free_bytes=1)) is None

    async def test_the_end_of_the_last_run_is_spared(self, storage: Storage) -> None:
        """A thousand short lines stay, and none of an earlier run."""
        output = Output(await added(storage))
        for _ in range(30):
            await storage.commit([output.chunk(_LINE * 100)])
        query = TrimQuery(handle=output.handle, free_bytes=EVERYTHING_BYTES, spares_end=True)
        point = await storage.trim_point(query)
        assert point is None or point.upto_seq <= 3000 - END_LINES
        await storage.commit([output.chunk(_LARGE, run=2)])
        point = await storage.trim_point(query)
        assert point is not None
        assert point.upto_seq == 3000

    async def test_old_events_go(self, storage: Storage) -> None:
        """The oldest go, up to a time and a number, but the newest of all stays; a page says what is gone."""
        handle = await added(storage)
        for n in range(1, 6):
            await storage.commit([AddEvent(handle, 1, EventType.UNHEALTHY, EPOCH_MS + n)])

        async def page(after: int = 0) -> tuple[list[int], int]:
            found = await storage.events(after, 100, EventFilter())
            return [event.ts_ms - EPOCH_MS for event in found.events], found.trimmed_to

        events = (await storage.events(0, 100, EventFilter())).events
        assert await page() == ([0, 1, 2, 3, 4, 5], 0)
        assert await storage.trim_events(before_ms=EPOCH_MS, limit=9) == 0
        assert await storage.trim_events(before_ms=EPOCH_MS + 9, limit=2) == 2
        assert await page() == ([2, 3, 4, 5], events[1].id)
        assert await storage.trim_events(before_ms=EPOCH_MS + 3, limit=9) == 1
        assert await page() == ([3, 4, 5], events[2].id)
        assert await storage.trim_events(before_ms=EPOCH_MS + 9, limit=9) == 2
        assert await page() == ([5], events[4].id)
        assert await page(events[5].id) == ([], events[4].id)
        assert await storage.trim_events(before_ms=EPOCH_MS + 9, limit=9) == 0

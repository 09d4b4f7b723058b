"""Conformance tests of output: bytes, ranges, positions, whole commits."""

import asyncio
from dataclasses import replace

import pytest

from outlast.model.histogram import HistogramQuery
from outlast.model.output import ChunkQuery, GapReason, Stream
from outlast.model.process import OutputSummary, ProcessQuery
from outlast.storage.base import CompleteOutput, PurgeProcess, Storage
from outlast.testing.storage.samples import EPOCH_MS, Output, added, end_of, new_process
from outlast.testing.storage.suite import AWKWARD, EVERYTHING_BYTES, StorageSuite, read_lines

OUT, ERR = Stream.STDOUT, Stream.STDERR


class OutputConformance(StorageSuite):
    """The contract's promises about output."""

    # ---- output

    async def test_output_comes_back_byte_for_byte(self, storage: Storage) -> None:
        """Any bytes are read as written, in the order of both streams together."""
        handle = await added(storage)
        output = Output(handle)
        data = [AWKWARD, b"\n", b"no newline", b"\0", AWKWARD * 500]
        chunks = [output.chunk(d, s, ts_ms=EPOCH_MS + n) for n, d in enumerate(data) for s in Stream]
        await storage.commit(chunks[:3])
        await storage.commit(chunks[3:])
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)) == chunks
        for stream in Stream:
            found = await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, stream=stream))
            assert found == [chunk for chunk in chunks if chunk.stream is stream]
        process = await storage.process(handle)
        assert process is not None
        assert process.output == OutputSummary(
            lines=chunks[-1].last_seq,
            bytes=2 * sum(map(len, data)),
            first_seq=1,
            last_seq=chunks[-1].last_seq,
            latest_ms=EPOCH_MS + len(data) - 1,
        )

    async def test_reading_resumes_after_any_line(self, storage: Storage) -> None:
        """Reads start in the middle of a chunk, at its end, at the end of the output and beyond."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [output.chunk(b"1\n2\n3"), output.chunk(b"4\n", Stream.STDERR), output.chunk(b"5\n6\n")]
        await storage.commit(chunks)
        for after in range(8):
            expected = [chunk.after(after) for chunk in chunks if chunk.last_seq > after]
            assert (
                await storage.chunks(ChunkQuery(handle=handle, after_seq=after, max_bytes=EVERYTHING_BYTES)) == expected
            )

    async def test_max_bytes_ends_a_read_after_the_chunk_that_reaches_it(self, storage: Storage) -> None:
        """One chunk is always returned; its size counts from `after_seq` on."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [output.chunk(b"12\n45\n") for _ in range(4)]
        await storage.commit(chunks)
        for after, max_bytes, count in [(0, 1, 1), (0, 6, 1), (0, 7, 2), (0, 24, 4), (1, 3, 1), (1, 4, 2)]:
            assert len(await storage.chunks(ChunkQuery(handle=handle, after_seq=after, max_bytes=max_bytes))) == count

    async def test_bounds_on_time_cut_a_range_out_of_the_output(self, storage: Storage) -> None:
        """Both bounds are inclusive; a clock that was set back leaves no hole and hides nothing."""
        handle = await added(storage)
        output = Output(handle)
        times = [10, 20, 20, 50, 15, 40, 50, 60]
        chunks = [output.chunk(b"x\n", Stream(n % 2 + 1), ts_ms=time) for n, time in enumerate(times)]
        await storage.commit(chunks)
        latest = [max(times[: n + 1]) for n in range(len(times))]
        process = await storage.process(handle)
        assert process is not None
        assert process.output.latest_ms == 60
        for since in (None, *range(5, 70, 5)):
            for until in (None, *range(5, 70, 5)):
                for stream in (None, *Stream):
                    found = await storage.chunks(
                        ChunkQuery(handle=handle, max_bytes=99, stream=stream, since_ms=since, until_ms=until)
                    )
                    assert found == [
                        chunk
                        for chunk, time in zip(chunks, latest, strict=True)
                        if (since is None or time >= since)
                        and (until is None or time <= until)
                        and stream in (None, chunk.stream)
                    ]

    async def test_tail_counts_lines_from_the_end(self, storage: Storage) -> None:
        """Lines of both streams or of one are counted, within and across chunks."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit(
            [
                output.chunk(b"1\n2\n3\n"),
                output.chunk(b"4\n5\n", Stream.STDERR),
                output.chunk(b"6\n7"),
                output.chunk(b"8\n", Stream.STDERR),
            ]
        )
        for stream in (None, *Stream):
            everything = await read_lines(storage, handle, stream=stream)
            for count in range(10):
                after = await storage.tail(handle, count, stream=stream)
                found = await read_lines(storage, handle, after=after, stream=stream)
                assert found == everything[max(0, len(everything) - count) :], (stream, count)

    async def test_lines_are_counted_by_time(self, storage: Storage) -> None:
        """Both streams, parts, gaps and a clock that is set back, at any width and within any bounds."""
        handle = await added(storage)
        assert (await storage.histogram(HistogramQuery(handle=handle, buckets=3))).lines == ()
        output = Output(handle)
        chunks = [
            output.chunk(b"x\n" * lines, stream, ts_ms=time)
            for lines, stream, time in (
                (1, OUT, 10),
                (3, OUT, 20),
                (1, ERR, 20),
                (2, OUT, 12),
                (1, OUT, 30),
                (1, OUT, 31),
            )
        ]
        chunks += [output.gap(3, ts_ms=35), output.chunk(b"a\npart", ERR, ts_ms=36)]
        chunks += [output.chunk(b"rest\nb\n", ERR, ts_ms=50, continues=True)]
        await storage.commit(chunks)
        everything = [
            (it.ts_ms, it.stream) for it in chunks for _ in range(it.line_count - (it.continues > 0)) if not it.gap
        ]
        for buckets in (1, 2, 3, 7, 41, 1000):
            for since, until in ((None, None), (12, None), (None, 36), (13, 30), (0, 100)):
                query = HistogramQuery(handle=handle, buckets=buckets, since_ms=since, until_ms=until)
                found = await storage.histogram(query)
                first, last = 10 if since is None else since, 50 if until is None else until
                assert len(found.lines) == len(found.stderr_lines) <= buckets
                assert found.from_ms == first
                assert (
                    first + (len(found.lines) - 1) * found.bucket_ms
                    <= last
                    < first + len(found.lines) * found.bucket_ms
                )
                for number, counts in enumerate(zip(found.lines, found.stderr_lines, strict=True)):
                    begin = first + number * found.bucket_ms
                    here = [s for t, s in everything if begin <= t < begin + found.bucket_ms and first <= t <= last]
                    assert counts == (len(here), here.count(ERR)), (query, number)
        await storage.commit([PurgeProcess(handle)])
        assert (await storage.histogram(HistogramQuery(handle=handle, buckets=3))).lines == ()

    async def test_output_continues_after_the_end_of_a_run(self, storage: Storage) -> None:
        """A descendant may keep the pipe open and write on."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit([output.chunk(b"before\n"), end_of(handle)])
        await storage.commit([output.chunk(b"after\n"), CompleteOutput(handle, 1)])
        assert await read_lines(storage, handle) == [b"before\n", b"after\n"]
        assert await storage.unfinished() == []

    async def test_processes_do_not_see_each_others_output(self, storage: Storage) -> None:
        """A batch may contain the output of several processes."""
        outputs = [Output(await added(storage)) for _ in range(3)]
        for n in range(4):
            await storage.commit([output.chunk(b"%d of %d\n" % (n, output.handle)) for output in outputs])
        for output in outputs:
            expected = [b"%d of %d\n" % (n, output.handle) for n in range(4)]
            assert await read_lines(storage, output.handle) == expected

    # ---- gaps

    async def test_a_gap_comes_back_in_its_place(self, storage: Storage) -> None:
        """A gap takes one sequence number, and counts neither as a line nor in bytes."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [
            output.chunk(b"1\n2"),
            output.gap(1000, reason=GapReason.LOST, ts_ms=EPOCH_MS + 1),
            output.gap(0, Stream.STDERR, reason=GapReason.STORE_REPLACED, ts_ms=EPOCH_MS + 1),
            output.chunk(b"5\n", Stream.STDERR, ts_ms=EPOCH_MS + 2),
            output.gap(7, Stream.STDERR, run=2),
        ]
        await storage.commit(chunks[:2])
        await storage.commit(chunks[2:])
        assert output.position.stdout_end == 1003
        for after in range(8):
            expected = [chunk.after(after) for chunk in chunks if chunk.last_seq > after]
            assert (
                await storage.chunks(ChunkQuery(handle=handle, after_seq=after, max_bytes=EVERYTHING_BYTES)) == expected
            )
            for stream in Stream:
                found = await storage.chunks(
                    ChunkQuery(handle=handle, after_seq=after, max_bytes=EVERYTHING_BYTES, stream=stream)
                )
                assert found == [chunk for chunk in expected if chunk.stream is stream]
        for since, until in ((EPOCH_MS + 1, None), (None, EPOCH_MS + 1), (EPOCH_MS + 1, EPOCH_MS + 1)):
            found = await storage.chunks(
                ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, since_ms=since, until_ms=until)
            )
            assert found == chunks[0 if since is None else 1 : 5 if until is None else 3]
        process = await storage.process(handle)
        assert process is not None
        assert process.output == OutputSummary(lines=3, bytes=5, first_seq=1, last_seq=6, latest_ms=EPOCH_MS + 2)
        assert [entry.position for entry in await storage.unfinished()] == [output.position]
        await storage.commit([PurgeProcess(handle)])
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=1)) == []

    async def test_a_gap_may_pass_over_numbers(self, storage: Storage) -> None:
        """A reader behind any of them gets the gap next, and lines continue after it."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [
            output.chunk(b"1\n2\n"),
            output.gap(passed_over=1_000_000),
            output.gap(0, Stream.STDERR),
            output.chunk(b"3\n"),
        ]
        await storage.commit(chunks[:2])
        await storage.commit(chunks[2:])
        assert [chunk.first_seq for chunk in chunks] == [1, 1_000_003, 1_000_004, 1_000_005]
        for after in (2, 3, 500_000, 1_000_002):
            query = ChunkQuery(handle=handle, after_seq=after, max_bytes=EVERYTHING_BYTES)
            assert await storage.chunks(query) == chunks[1:]
            assert await storage.chunks(replace(query, stream=Stream.STDERR)) == chunks[2:3]
        assert [await storage.tail(handle, count) for count in range(4)] == [1_000_005, 1_000_004, 1, 0]
        process = await storage.process(handle)
        assert process is not None
        assert process.output == OutputSummary(lines=3, bytes=6, first_seq=1, last_seq=1_000_005, latest_ms=EPOCH_MS)
        await storage.commit(chunks)
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)) == chunks

    @pytest.mark.parametrize("begins_with_gap", [False, True])
    async def test_times_around_a_gap_that_passes_over_numbers(
        self, storage: Storage, *, begins_with_gap: bool
    ) -> None:
        """The numbers that no chunk has are no obstacle to bounds of time."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [] if begins_with_gap else [output.chunk(b"before\n", ts_ms=EPOCH_MS)]
        chunks.append(output.gap(passed_over=1_000_000, ts_ms=EPOCH_MS + 10))
        chunks.append(output.chunk(b"after\n", Stream.STDERR, ts_ms=EPOCH_MS + 20))
        await storage.commit(chunks)
        for shift_ms in range(-5, 30, 5):
            at_ms = EPOCH_MS + shift_ms
            query = ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)
            since = await storage.chunks(replace(query, since_ms=at_ms))
            assert since == [chunk for chunk in chunks if chunk.ts_ms >= at_ms]
            until = await storage.chunks(replace(query, until_ms=at_ms))
            assert until == [chunk for chunk in chunks if chunk.ts_ms <= at_ms]

    async def test_output_may_begin_with_a_gap(self, storage: Storage) -> None:
        """A gap may be the only output."""
        handle = await added(storage)
        gap = Output(handle).gap(5, Stream.STDERR)
        await storage.commit([gap])
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=1)) == [gap]
        process = await storage.process(handle)
        assert process is not None
        assert process.output == OutputSummary(lines=0, bytes=0, first_seq=1, last_seq=1, latest_ms=EPOCH_MS)
        assert [await storage.tail(handle, count) for count in range(3)] == [1, 0, 0]

    async def test_tail_does_not_count_gaps(self, storage: Storage) -> None:
        """Gaps between and after the last lines are returned with the lines."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit(
            [
                output.gap(),
                output.chunk(b"a\nb\n"),
                output.gap(3),
                output.gap(3, Stream.STDERR),
                output.chunk(b"c\n", Stream.STDERR),
                output.chunk(b"d\ne"),
                output.gap(1),
            ]
        )
        for stream in (None, *Stream):
            everything = await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, stream=stream))
            lines = [line for chunk in everything for line in chunk.lines()]
            for count in range(8):
                after = await storage.tail(handle, count, stream=stream)
                found = await read_lines(storage, handle, after=after, stream=stream)
                assert found == lines[max(0, len(lines) - count) :], (stream, count)
        for count, after in ((0, 9), (1, 7), (2, 6), (3, 5), (4, 2), (5, 1), (6, 0)):
            assert await storage.tail(handle, count) == after

    # ---- whole commits

    async def test_chunks_that_are_stored_already_are_ignored(self, storage: Storage) -> None:
        """A commit whose answer was lost is repeated: alone, in other parts, and with later output."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [output.chunk(b"1\n2"), output.gap(3, Stream.STDERR), output.chunk(b"4\n", Stream.STDERR)]
        more = [output.chunk(b"5\n"), output.gap(), output.chunk(b"7\n")]
        await storage.commit(chunks)
        for again in (chunks, chunks[:1], chunks[1:], [*chunks[2:], *more[:1]], [*chunks, *more], [more[2], *chunks]):
            await storage.commit(again)
        await storage.commit([more[0], more[0], more[2]])
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)) == [*chunks, *more]
        process = await storage.process(handle)
        assert process is not None
        assert process.output == OutputSummary(lines=5, bytes=9, first_seq=1, last_seq=7, latest_ms=EPOCH_MS)

    async def test_a_chunk_may_be_repeated_within_its_batch(self, storage: Storage) -> None:
        """The first of the equal chunks is stored."""
        handle = await added(storage)
        output = Output(handle)
        chunks = [output.chunk(b"1\n"), output.gap(), output.chunk(b"3\n")]
        await storage.commit([chunks[0], chunks[0], chunks[1], chunks[1], *chunks])
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)) == chunks

    @pytest.mark.parametrize(
        "fault",
        ["hole", "overlap", "end", "shifted", "other stream", "empty", "gap with data", "gap backwards", "gap of both"],
    )
    async def test_a_chunk_that_does_not_continue_fails_its_whole_batch(self, storage: Storage, fault: str) -> None:
        """Nothing of the batch is stored, and the right batch can be committed afterwards."""
        handle = await added(storage)
        output = Output(handle)
        stored = output.chunk(b"one\n")
        await storage.commit([stored])
        good = output.chunk(b"two\n")
        gap = Output(handle, await storage.position(handle)).gap(4)
        bad = {
            "hole": replace(good, first_seq=3),
            "overlap": replace(good, first_seq=1, line_count=2, data=b"one\ntwo\n"),
            "end": replace(good, stdout_end=good.stdout_end + 1),
            "shifted": replace(stored, stdout_end=stored.stdout_end + 1),
            "other stream": replace(good, stderr_end=1),
            "empty": replace(good, data=b"", stdout_end=stored.stdout_end),
            "gap with data": replace(gap, data=b"two\n"),
            "gap backwards": replace(gap, stdout_end=stored.stdout_end - 1),
            "gap of both": replace(gap, stderr_end=1),
        }[fault]
        before = await storage.process(handle)
        new = new_process()
        with pytest.raises(ValueError, match=f"process {handle}"):
            await storage.commit([end_of(handle), new, bad, CompleteOutput(handle, 1)])
        assert await storage.process(handle) == before
        assert await storage.process_by_id(new.spec.id) is None
        assert await storage.total() == 1
        await storage.commit([good])
        assert await read_lines(storage, handle) == [b"one\n", b"two\n"]

    async def test_reads_see_whole_commits_only(self, storage: Storage) -> None:
        """No reader sees half of a batch that has a line for each of three processes."""
        outputs = [Output(await added(storage)) for _ in range(3)]
        first = outputs[0].handle
        done = asyncio.Event()

        async def watch() -> None:
            seen = 0
            while not done.is_set():
                counts = {process.output.lines for process in await storage.processes(ProcessQuery())}
                assert len(counts) == 1
                chunks = await storage.chunks(ChunkQuery(handle=first, after_seq=seen, max_bytes=64))
                assert [chunk.first_seq for chunk in chunks] == list(range(seen + 1, seen + 1 + len(chunks)))
                seen += len(chunks)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(watch())
            for n in range(100):
                await storage.commit([output.chunk(b"%d\n" % n) for output in outputs])
                assert await storage.tail(first, 0) == n + 1  # a read after a commit sees it
            done.set()

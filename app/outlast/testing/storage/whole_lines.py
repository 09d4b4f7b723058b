"""Conformance tests of lines that were stored in parts."""

from dataclasses import replace

import pytest

from outlast.model.output import Chunk, ChunkQuery, Position, Stream, UnfinishedLine
from outlast.model.process import Order, OutputSummary
from outlast.model.scan import ScanQuery
from outlast.storage.base import CompleteOutput, Storage
from outlast.testing.storage.model import whole_lines
from outlast.testing.storage.samples import EPOCH_MS, Output, added
from outlast.testing.storage.scan import scanned
from outlast.testing.storage.suite import EVERYTHING_BYTES, StorageSuite

OUT, ERR = Stream.STDOUT, Stream.STDERR


def parted(output: Output) -> list[Chunk]:
    """Return chunks with lines in parts: around the other stream, before a gap, over runs, and a last one."""
    pieces: list[tuple[bytes | None, Stream, int, bool]] = [
        (b"first\nname? ", OUT, 1, False),  # 1, 2
        (b"warning: ", ERR, 1, False),  # 3
        (b"Bob", OUT, 1, True),  # 4
        (b" Smith\nhello\nok? ", OUT, 1, True),  # 5, 6, 7
        (b"none\n", ERR, 1, True),  # 8
        (b"so", OUT, 1, True),  # 9
        (None, OUT, 1, False),  # 10
        (b"after the gap\n", OUT, 1, False),  # 11
        (b"x" * 9, OUT, 1, False),  # 12
        (b"yz\n", OUT, 1, False),  # 13, no part of 12: that was too long
        (b"last words", ERR, 1, False),  # 14
        (b"new run\nprompt> ", ERR, 2, False),  # 15, 16
        (b"again> ", ERR, 2, True),  # 17
        (b"quiet\n", OUT, 2, False),  # 18
    ]
    return [
        output.gap(3, stream, ts_ms=EPOCH_MS + n, run=run)
        if data is None
        else output.chunk(data, stream, ts_ms=EPOCH_MS + n, run=run, continues=continues)
        for n, (data, stream, run, continues) in enumerate(pieces)
    ]


_SHOWN = {
    1: b"first\n",
    5: b"name? Bob Smith\n",
    6: b"hello\n",
    8: b"warning: none\n",
    9: b"ok? so",
    11: b"after the gap\n",
    12: b"x" * 9,
    13: b"yz\n",
    14: b"last words",
    15: b"new run\n",
    17: b"prompt> again> ",
    18: b"quiet\n",
}
"""The lines of `parted` by number."""


def _numbered(chunks: list[Chunk]) -> dict[int, bytes]:
    return {chunk.first_seq + n: line for chunk in chunks for n, line in enumerate(chunk.lines())}


class WholeLineConformance(StorageSuite):
    """The contract's promises about lines that were stored in parts."""

    async def _stored(self, storage: Storage) -> tuple[int, list[Chunk]]:
        handle = await added(storage)
        chunks = parted(Output(handle))
        for chunk in chunks:
            await storage.commit([chunk])
        return handle, chunks

    async def test_parts_are_read_as_they_were_stored(self, storage: Storage) -> None:
        """A follower gets each part as an item of its own, in a replay as when it came."""
        handle, chunks = await self._stored(storage)
        assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES)) == chunks

    async def test_whole_lines_have_the_place_and_time_of_their_last_part(self, storage: Storage) -> None:
        """A line is joined around the other stream. Gaps and ends of runs end it, and a last one is shown as it is."""
        handle, chunks = await self._stored(storage)
        query = ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, whole_lines=True)
        found = await storage.chunks(query)
        assert _numbered(found) == _SHOWN
        assert [chunk.first_seq for chunk in found if chunk.gap] == [10]
        times = {line.seq: line.ts_ms for line in whole_lines(chunks)}
        assert {chunk.last_seq: chunk.ts_ms for chunk in found}.items() <= times.items()
        for stream in Stream:
            of_stream = {line.seq for line in whole_lines(chunks) if line.stream is stream}
            expected = {seq: line for seq, line in _SHOWN.items() if seq in of_stream}
            assert _numbered(await storage.chunks(replace(query, stream=stream))) == expected

    @pytest.mark.parametrize("max_bytes", [1, 12])
    async def test_whole_lines_are_read_piece_by_piece(self, storage: Storage, max_bytes: int) -> None:
        """A reader that goes on after the last line that it got gets each line once, and whole."""
        handle, _ = await self._stored(storage)
        lines: dict[int, bytes] = {}
        query = ChunkQuery(handle=handle, max_bytes=max_bytes, whole_lines=True)
        while found := await storage.chunks(query):
            assert not _numbered(found).keys() & lines.keys()
            lines |= _numbered(found)
            query = replace(query, after_seq=found[-1].last_seq)
        assert lines == _SHOWN

    async def test_a_part_that_was_seen_is_not_repeated(self, storage: Storage) -> None:
        """The number of a part gives the rest of its line. Any other number between the parts gives the whole line."""
        handle, _ = await self._stored(storage)
        rests = {2: (5, b"Bob Smith\n"), 4: (5, b" Smith\n"), 3: (8, b"none\n"), 7: (9, b"so"), 16: (17, b"again> ")}
        for after in range(19):
            query = ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, after_seq=after, whole_lines=True)
            expected = {seq: line for seq, line in _SHOWN.items() if seq > after}
            assert _numbered(await storage.chunks(query)) == expected
            if after in rests:
                seq, rest = rests[after]
                expected[seq] = rest
            assert _numbered(await storage.chunks(replace(query, seen_seq=after))) == expected

    async def test_bounds_on_time_select_whole_lines(self, storage: Storage) -> None:
        """A line is in the range of its last part; a part whose rest came later is in no range."""
        handle, chunks = await self._stored(storage)
        lines = {line.seq: line for line in whole_lines(chunks) if line.text() is not None}
        for since in range(len(chunks)):
            for until in range(since, len(chunks)):
                query = ChunkQuery(
                    handle=handle,
                    max_bytes=EVERYTHING_BYTES,
                    whole_lines=True,
                    since_ms=EPOCH_MS + since,
                    until_ms=EPOCH_MS + until,
                )
                expected = {seq: line.text() for seq, line in lines.items() if since <= line.ts_ms - EPOCH_MS <= until}
                assert _numbered(await storage.chunks(query)) == expected

    async def test_tail_counts_whole_lines(self, storage: Storage) -> None:
        """Parts directly before a line belong to it: one who reads parts gets it whole, too."""
        handle, chunks = await self._stored(storage)
        for stream in (None, *Stream):
            lines = [line for line in whole_lines(chunks) if stream in (None, line.stream) and line.text() is not None]
            for count in range(len(lines) + 2):
                after = await storage.tail(handle, count, stream=stream)
                query = ChunkQuery(
                    handle=handle, max_bytes=EVERYTHING_BYTES, after_seq=after, stream=stream, whole_lines=True
                )
                found = _numbered(await storage.chunks(query))
                assert list(found) == [line.seq for line in lines[max(0, len(lines) - count) :]], (stream, count)
        for before in range(1, 21):
            for stream in (None, *Stream):
                lines = [line for line in whole_lines(chunks) if stream in (None, line.stream) and line.seq < before]
                seqs = [line.seq for line in lines if line.text() is not None]
                for count in range(len(seqs) + 2):
                    after = await storage.tail(handle, count, stream=stream, before=before)
                    tail = [seq for seq in seqs if seq > after]
                    assert tail == seqs[max(0, len(seqs) - count) :], (before, stream, count)
        tails = [await storage.tail(handle, count) for count in (0, 1, 2, 3, 4)]
        assert tails == [18, 17, 15, 14, 13]
        assert [await storage.tail(handle, count, stream=ERR) for count in (1, 3, 4)] == [15, 13, 2]
        assert [await storage.tail(handle, count, stream=OUT) for count in (5, 6, 7)] == [6, 5, 1]

    async def test_counts_are_those_of_whole_lines(self, storage: Storage) -> None:
        """A line counts once, from its first part on; the position tells what is unfinished."""
        handle = await added(storage)
        output = Output(handle)
        lines = [0, 2, 3, 3, 5, 5, 5, 5, 6, 7, 8, 9, 11, 11, 12]
        for chunk, count in zip(parted(output), lines[1:], strict=True):
            await storage.commit([chunk])
            process = await storage.process(handle)
            assert process is not None
            assert (process.output.lines, process.output.last_seq) == (count, chunk.last_seq)
        assert (await storage.position(handle)).lines == len(_SHOWN)
        process = await storage.process(handle)
        assert process is not None
        size = sum(map(len, _SHOWN.values()))
        latest_ms = chunk.ts_ms
        assert process.output == OutputSummary(
            lines=len(_SHOWN), bytes=size, first_seq=1, last_seq=18, latest_ms=latest_ms
        )

    async def test_the_position_tells_what_is_unfinished(self, storage: Storage) -> None:
        """From it, the next daemon knows which line the next bytes continue."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit(
            [output.chunk(b"one\ntwo"), output.chunk(b"err", ERR), output.chunk(b"!!", continues=True)]
        )
        expected = Position(
            last_seq=4,
            lines=3,
            stdout_end=9,
            stderr_end=3,
            stdout_line=UnfinishedLine(run=1, first_seq=2, size=5),
            stderr_line=UnfinishedLine(run=1, first_seq=3, size=3),
        )
        assert await storage.position(handle) == expected
        assert [entry.position for entry in await storage.unfinished()] == [expected]
        await storage.commit([output.chunk(b"\nmore", continues=True), output.gap(0, ERR)])
        position = await storage.position(handle)
        assert position.stdout_line == UnfinishedLine(run=1, first_seq=6, size=4)
        assert position.stderr_line is None

    async def test_a_scan_returns_whole_lines(self, storage: Storage) -> None:
        """A search finds what spans parts, in both orders and whatever the size of a page."""
        handle, _ = await self._stored(storage)
        other = Output(await added(storage))
        await storage.commit([other.chunk(b"unfinished")])
        for order in Order:
            for max_chunks in (1, 1000):
                found = await scanned(storage, ScanQuery(order=order, handle=handle, max_chunks=max_chunks))
                assert _numbered(found) == _SHOWN
                everything = await scanned(storage, ScanQuery(order=order, max_chunks=max_chunks))
                assert len(everything) == len(found) + 1
        last = await scanned(storage, ScanQuery(handle=handle, since_ms=EPOCH_MS + 12))
        assert _numbered(last) == {17: b"prompt> again> ", 18: b"quiet\n"}

    async def test_many_parts_are_one_line(self, storage: Storage) -> None:
        """A line of hundreds of parts stays one when the store merges and compresses what is complete."""
        handle = await added(storage)
        output = Output(handle)
        dots = [output.chunk(b".", continues=True) for _ in range(300)]
        await storage.commit([*dots[:100], *dots[:100]])
        await storage.commit(dots[100:])
        query = ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, whole_lines=True)
        assert _numbered(await storage.chunks(query)) == {300: b"." * 300}
        await storage.commit([output.chunk(b"done\n", continues=True), CompleteOutput(handle, 1)])
        assert _numbered(await storage.chunks(query)) == {301: b"." * 300 + b"done\n"}
        assert await storage.tail(handle, 1) == 0

    @pytest.mark.parametrize("fault", ["other line", "other run", "other stream", "finished", "gap"])
    async def test_only_the_unfinished_line_can_be_continued(self, storage: Storage, fault: str) -> None:
        """A chunk that continues any other line is refused."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit([output.chunk(b"err\n", ERR), output.chunk(b"one\npart")])
        good = output.chunk(b"rest\n", continues=True)
        assert good.continues == 3
        on_stderr = replace(
            good, stream=ERR, stdout_end=good.stdout_end - len(good.data), stderr_end=good.stderr_end + len(good.data)
        )
        bad = {
            "other line": replace(good, continues=2),
            "other run": replace(good, run=2),
            "other stream": on_stderr,
            "finished": replace(on_stderr, continues=1),
            "gap": replace(Output(handle, await storage.position(handle)).gap(3), continues=3),
        }[fault]
        with pytest.raises(ValueError, match=f"process {handle}"):
            await storage.commit([bad])
        await storage.commit([good])
        query = ChunkQuery(handle=handle, max_bytes=EVERYTHING_BYTES, whole_lines=True, after_seq=2)
        assert _numbered(await storage.chunks(query)) == {4: b"partrest\n"}

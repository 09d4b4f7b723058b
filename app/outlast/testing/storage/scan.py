"""Conformance tests of scans of the output of all processes."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from outlast.model.output import Chunk, Stream
from outlast.model.process import Order
from outlast.model.scan import ScanQuery
from outlast.storage.base import PurgeProcess, Storage, WithdrawProcess
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from outlast.testing.storage.suite import StorageSuite


async def scanned(storage: Storage, scan: ScanQuery) -> list[Chunk]:
    """Read all pages of a scan, and check that no position is returned twice."""
    found: list[Chunk] = []
    positions = [scan.position]
    while True:
        piece = await storage.scan(scan)
        assert len(piece.chunks) <= scan.max_chunks
        found += [chunk for _, chunk in piece.chunks]
        positions += [position for position, _ in piece.chunks]
        if piece.position is None:
            break
        scan = replace(scan, position=piece.position)
    known = [position for position in positions if position is not None]
    assert len(set(known)) == len(known), "no position is given twice"
    return found


def of_each(chunks: Sequence[Chunk]) -> dict[int, list[Chunk]]:
    """Group chunks by process: a storage that has merged rows need not keep the order between processes."""
    return {handle: [chunk for chunk in chunks if chunk.handle == handle] for handle in {c.handle for c in chunks}}


class ScanConformance(StorageSuite):
    """The contract's promises about `Storage.scan`."""

    @pytest.mark.parametrize(("max_chunks", "max_bytes"), [(1, 1 << 20), (3, 1 << 20), (1000, 1), (1000, 1 << 20)])
    async def test_a_scan_gives_every_chunk_once_in_the_order_of_storing(
        self, storage: Storage, max_chunks: int, max_bytes: int
    ) -> None:
        """Pages of any size, in either order, return every chunk once."""
        outputs = [Output(await added(storage)) for _ in range(3)]
        large = b" " * 40_000  # merging would change the order between the processes, and pays for small chunks only
        chunks = [
            output.chunk(b"%d of %d%b\n" % (n, output.handle, large), Stream(1 + n % 2), ts_ms=EPOCH_MS + n)
            for n, output in itertools.product(range(4), outputs)
        ]
        for chunk in chunks:
            await storage.commit([chunk])
        await storage.commit([outputs[0].gap(5)])
        for order, expected in ((Order.OLDEST, chunks), (Order.NEWEST, chunks[::-1])):
            scan = ScanQuery(order=order, max_chunks=max_chunks, max_bytes=max_bytes)
            assert await scanned(storage, scan) == expected
            handle = outputs[1].handle
            of_one = [chunk for chunk in expected if chunk.handle == handle]
            assert await scanned(storage, replace(scan, handle=handle)) == of_one
            on_stderr = [chunk for chunk in expected if chunk.stream is Stream.STDERR]
            assert await scanned(storage, replace(scan, stream=Stream.STDERR)) == on_stderr
            timed = [chunk for chunk in expected if EPOCH_MS + 1 <= chunk.ts_ms <= EPOCH_MS + 2]
            assert await scanned(storage, replace(scan, since_ms=EPOCH_MS + 1, until_ms=EPOCH_MS + 2)) == timed
        await storage.commit([PurgeProcess(outputs[2].handle)])
        left = [chunk for chunk in chunks if chunk.handle != outputs[2].handle]
        assert await scanned(storage, ScanQuery(order=Order.OLDEST, max_chunks=max_chunks, max_bytes=max_bytes)) == left

    async def test_output_stored_during_a_scan_is_not_given_twice(self, storage: Storage) -> None:
        """A scan from the newest goes back from where it began; a scan from the oldest finds later output."""
        output = Output(await added(storage))
        chunks = [output.chunk(b"%d\n" % n) for n in range(3)]
        await storage.commit(chunks[:2])
        newest = await storage.scan(ScanQuery(max_chunks=1))
        oldest = await storage.scan(ScanQuery(order=Order.OLDEST, max_chunks=1))
        await storage.commit(chunks[2:])
        assert await scanned(storage, ScanQuery(position=newest.position)) == [chunks[0]]
        assert await scanned(storage, ScanQuery(order=Order.OLDEST, position=oldest.position)) == chunks[1:]

    @pytest.mark.parametrize("withdraw", [False, True])
    async def test_no_position_is_ever_given_again(self, storage: Storage, *, withdraw: bool) -> None:
        """A reader that continues from the position of the newest chunk, since purged, finds all later output."""
        change = new_process()
        kept, gone = Output(await added(storage)), Output(await added(storage, change))
        await storage.commit([kept.chunk(b"kept\n"), *(gone.chunk(b"%d\n" % n) for n in range(5)), gone.gap(7)])
        oldest = ScanQuery(order=Order.OLDEST)
        last, _ = (await storage.scan(oldest)).chunks[-1]
        await storage.commit([WithdrawProcess(change.spec.id) if withdraw else PurgeProcess(gone.handle)])
        for _ in range(4):  # a storage may do maintenance between commits
            await storage.commit([new_process()])
        later = [kept.chunk(b"%d\n" % n) for n in range(3)]
        for chunk in later:
            await storage.commit([chunk])
        assert await scanned(storage, replace(oldest, position=last)) == later

    async def test_an_empty_storage_has_nothing_to_scan(self, storage: Storage) -> None:
        """A scan of an unknown process finds nothing, either."""
        for order in Order:
            assert await scanned(storage, ScanQuery(order=order)) == []
            assert await scanned(storage, ScanQuery(order=order, handle=7)) == []

    async def test_bounds_on_time_hold_for_output_that_comes_late(self, storage: Storage) -> None:
        """Bounds on time apply after the clock was set forward and back, too."""
        outputs = [Output(await added(storage)) for _ in range(2)]
        seconds = (0, 59, 30, 60, 61, 119, 120, 45, 300, 180, 299, 359, 360, 9000, 361, 420, 9060, 500)
        chunks = [outputs[n % 2].chunk(b"%d\n" % n, ts_ms=EPOCH_MS + second * 1000) for n, second in enumerate(seconds)]
        await storage.commit(chunks[:5])
        for chunk in chunks[5:]:
            await storage.commit([chunk])
        for since_ms in {chunk.ts_ms + more for chunk in chunks for more in (-1, 0, 1)}:
            wanted = [chunk for chunk in chunks if chunk.ts_ms >= since_ms]
            found = await scanned(storage, ScanQuery(since_ms=since_ms, order=Order.OLDEST))
            assert of_each(found) == of_each(wanted)
            found = await scanned(storage, ScanQuery(since_ms=since_ms, max_bytes=1))
            assert of_each(found) == of_each(wanted[::-1])
            of_one = [chunk for chunk in wanted if chunk.handle == outputs[1].handle]
            assert await scanned(storage, ScanQuery(since_ms=since_ms, handle=outputs[1].handle)) == of_one[::-1]

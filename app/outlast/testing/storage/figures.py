"""Conformance tests of totals: they count each change once, and never fall."""

from pathlib import Path

import pytest

from outlast.model.event import EventType
from outlast.model.output import GapReason, Stream
from outlast.model.process import ExitStatus, Reason, Run
from outlast.model.retention import Rule
from outlast.model.totals import NO_LABEL, Counted, StartResult, Totals
from outlast.storage.base import (
    AddEvent,
    BeginRun,
    Change,
    CompleteOutput,
    EndRun,
    PurgeProcess,
    Storage,
    TrimOutput,
    WithdrawProcess,
    WithdrawRun,
)
from outlast.testing.storage.samples import EPOCH_MS, Output, added, end_of, new_process
from outlast.testing.storage.suite import StorageSuite

_STDOUT, _STDERR = Stream.STDOUT.word, Stream.STDERR.word


async def totals(storage: Storage) -> Totals:
    """Return the totals that are not 0."""
    return {key: count for key, count in (await storage.figures()).totals.items() if count}


def _ends(handle: int, run: int, reason: Reason) -> EndRun:
    return EndRun(handle, run, ExitStatus(reason=reason, ended_at_ms=EPOCH_MS))


class FiguresConformance(StorageSuite):
    """The contract's promises about totals."""

    async def test_a_new_storage_has_counted_nothing(self, storage: Storage) -> None:
        """All totals are 0, and there is no output."""
        assert await totals(storage) == {}
        assert (await storage.figures()).oldest_output_ms is None

    async def test_output_is_counted_by_stream(self, storage: Storage) -> None:
        """Bytes and lines of each stream are counted over all processes and commits, also when a commit is repeated."""
        one, other = Output(await added(storage)), Output(await added(storage))
        first: list[Change] = [one.chunk(b"a\nbc\n"), other.chunk(b"\xff\n", Stream.STDERR)]
        await storage.commit(first)
        await storage.commit(first)
        expected = {
            (Counted.STARTS, StartResult.RECORDED): 2,
            (Counted.OUTPUT_BYTES, _STDOUT): 5,
            (Counted.OUTPUT_LINES, _STDOUT): 2,
            (Counted.OUTPUT_BYTES, _STDERR): 2,
            (Counted.OUTPUT_LINES, _STDERR): 1,
        }
        assert await totals(storage) == expected
        large = b"x" * 100_000 + b"\n"
        await storage.commit([other.chunk(b"d\n"), one.chunk(large, Stream.STDERR), one.chunk(b"e\n")])
        expected[Counted.OUTPUT_BYTES, _STDOUT] += 4
        expected[Counted.OUTPUT_LINES, _STDOUT] += 2
        expected[Counted.OUTPUT_BYTES, _STDERR] += len(large)
        expected[Counted.OUTPUT_LINES, _STDERR] += 1
        assert await totals(storage) == expected

    async def test_each_of_many_small_commits_is_counted(self, storage: Storage) -> None:
        """A store may join what it has stored; the totals stay."""
        output = Output(await added(storage))
        for number in range(1, 20):
            await storage.commit([output.chunk(b"a\n")])
            assert (await totals(storage))[Counted.OUTPUT_LINES, _STDOUT] == number

    async def test_a_line_in_parts_counts_once(self, storage: Storage) -> None:
        """All bytes of its parts count, and one line."""
        output = Output(await added(storage))
        await storage.commit([output.chunk(b"na")])
        await storage.commit([output.chunk(b"me", continues=True)])
        await storage.commit([output.chunk(b"?\nno\n", continues=True)])
        found = await totals(storage)
        assert found[Counted.OUTPUT_BYTES, _STDOUT] == 9
        assert found[Counted.OUTPUT_LINES, _STDOUT] == 2

    async def test_gaps_are_counted_by_reason(self, storage: Storage) -> None:
        """A gap is neither a line nor bytes."""
        output = Output(await added(storage))
        gaps: list[Change] = [output.gap(7), output.gap(0), output.gap(3, reason=GapReason.STORE_REPLACED)]
        await storage.commit(gaps)
        await storage.commit(gaps)
        assert await totals(storage) == {
            (Counted.STARTS, StartResult.RECORDED): 1,
            (Counted.GAPS, GapReason.LOST): 2,
            (Counted.GAPS, GapReason.STORE_REPLACED): 1,
        }

    async def test_ends_are_counted_by_reason(self, storage: Storage) -> None:
        """Each run ends once. Other changes are not counted."""
        handle = await added(storage)
        for number, reason in enumerate(Reason, start=1):
            end = _ends(handle, number, reason)
            run = Run(number=number + 1, pid=5, started_at_ms=EPOCH_MS)
            await storage.commit([end, CompleteOutput(handle, number), BeginRun(handle, run)])
            await storage.commit([end, BeginRun(handle, run)])
        await storage.commit([AddEvent(handle, len(Reason) + 1, EventType.UNHEALTHY, EPOCH_MS)])
        expected: dict[tuple[Counted, str], int] = {(Counted.ENDS, reason): 1 for reason in Reason}
        expected[Counted.STARTS, StartResult.RECORDED] = 1
        expected[Counted.RESTARTS, NO_LABEL] = len(Reason)
        assert await totals(storage) == expected

    async def test_a_start_that_ended_before_it_was_recorded_is_counted(self, storage: Storage) -> None:
        """A process may be added with its end."""
        change = new_process()
        ended = Run(pid=3, started_at_ms=EPOCH_MS, ending=end_of(1).ending)
        again = type(change)(change.spec, ended)
        await storage.commit([again])
        await storage.commit([again])
        assert await totals(storage) == {
            (Counted.STARTS, StartResult.RECORDED): 1,
            (Counted.ENDS, Reason.EXITED): 1,
        }

    async def test_failed_starts_are_counted(self, storage: Storage) -> None:
        """A withdrawn start has been recorded, and has failed; a withdrawal of nothing counts nothing."""
        failed = new_process()
        await storage.commit([failed])
        withdrawal = WithdrawProcess(failed.spec.id)
        await storage.commit([withdrawal, withdrawal, WithdrawProcess(new_process().spec.id)])
        handle = await added(storage)
        later = BeginRun(handle, Run(number=2, pid=5, started_at_ms=EPOCH_MS))
        await storage.commit([end_of(handle), later, WithdrawRun(handle, 2), WithdrawRun(handle, 2)])
        assert await totals(storage) == {
            (Counted.STARTS, StartResult.RECORDED): 2,
            (Counted.STARTS, StartResult.FAILED): 2,
            (Counted.RESTARTS, NO_LABEL): 1,
            (Counted.ENDS, Reason.EXITED): 1,
        }

    async def test_a_purge_lowers_no_total(self, storage: Storage) -> None:
        """Neither a purge of the process that printed last, nor of all processes, nor what comes later for them."""
        handle = await added(storage)
        output = Output(handle)
        await storage.commit([output.chunk(b"a\n"), output.gap(1), end_of(handle)])
        before = await totals(storage)
        await storage.commit([PurgeProcess(handle), output.chunk(b"late\n"), end_of(handle)])
        assert await totals(storage) == before
        later = Output(await added(storage))
        await storage.commit([later.chunk(b"b\n")])
        found = await totals(storage)
        assert found[Counted.OUTPUT_BYTES, _STDOUT] == 4
        assert found[Counted.OUTPUT_LINES, _STDOUT] == 2
        assert found[Counted.GAPS, GapReason.LOST] == 1

    async def test_output_that_is_purged_in_its_own_commit_counts(self, storage: Storage) -> None:
        """Also if the commit stores no other output."""
        output = Output(await added(storage))
        await storage.commit([output.chunk(b"a\n"), PurgeProcess(output.handle)])
        later = Output(await added(storage))
        for number in (2, 3):
            assert (await totals(storage))[Counted.OUTPUT_LINES, _STDOUT] == number - 1
            await storage.commit([later.chunk(b"b\n")])

    async def test_the_oldest_output_is_known(self, storage: Storage) -> None:
        """The oldest output counts, of whatever process, unless it is deleted."""
        large = b"x" * 50_000 + b"\n"
        one, other = Output(await added(storage)), Output(await added(storage))
        await storage.commit([one.chunk(large, ts_ms=EPOCH_MS + 5)])
        await storage.commit([other.chunk(b"b\n", ts_ms=EPOCH_MS + 9)])
        await storage.commit([one.chunk(large, ts_ms=EPOCH_MS + 8), one.chunk(large, ts_ms=EPOCH_MS + 10)])
        assert (await storage.figures()).oldest_output_ms == EPOCH_MS + 5
        await storage.commit([TrimOutput(one.handle, 1, EPOCH_MS, Rule.OUTPUT_S)])
        assert (await storage.figures()).oldest_output_ms == EPOCH_MS + 8
        await storage.commit([TrimOutput(one.handle, 2, EPOCH_MS, Rule.OUTPUT_S)])
        assert (await storage.figures()).oldest_output_ms == EPOCH_MS + 9
        await storage.commit([PurgeProcess(other.handle)])
        assert (await storage.figures()).oldest_output_ms == EPOCH_MS + 10

    async def test_what_retention_deletes_is_counted_by_rule(self, storage: Storage) -> None:
        """A trim and a purge count what the process holds less, once, and lower no total. Other purges do not count."""
        large = b"x" * 50_000 + b"\n"
        one, other = Output(await added(storage)), Output(await added(storage))
        await storage.commit([output.chunk(large) for output in (one, other) for _ in range(3)])
        held, before = await storage.held_bytes(one.handle), await totals(storage)
        trim = TrimOutput(one.handle, 2, EPOCH_MS, Rule.PROCESS_BYTES)
        await storage.commit([trim])
        await storage.commit([trim])
        left = await storage.held_bytes(one.handle)
        assert 0 < left < held
        expected = {**before, (Counted.REMOVED_BYTES, Rule.PROCESS_BYTES): held - left}
        assert await totals(storage) == expected
        purge = PurgeProcess(one.handle, Rule.ENDED)
        await storage.commit([purge, purge])
        await storage.commit([purge, PurgeProcess(other.handle)])
        expected |= {(Counted.REMOVED_BYTES, Rule.ENDED): left, (Counted.REMOVED_PROCESSES, Rule.ENDED): 1}
        assert await totals(storage) == expected

    async def test_a_trim_beside_output_in_one_commit_lowers_no_total(self, storage: Storage) -> None:
        """The output of the same commit counts, of the trimmed process and of another one."""
        large = b"x" * 50_000 + b"\n"
        one, other = Output(await added(storage)), Output(await added(storage))
        await storage.commit([one.chunk(large), one.chunk(large)])
        trim = TrimOutput(one.handle, 2, EPOCH_MS, Rule.TOTAL_BYTES)
        await storage.commit([other.chunk(b"a\n"), trim, one.chunk(b"b\n"), other.chunk(b"c\n")])
        assert (await totals(storage))[Counted.OUTPUT_BYTES, _STDOUT] == 2 * len(large) + 6
        await storage.commit([TrimOutput(other.handle, 2, EPOCH_MS, Rule.TOTAL_BYTES)])
        assert (await totals(storage))[Counted.OUTPUT_LINES, _STDOUT] == 5

    async def test_totals_outlast_the_storage(self, storage: Storage, tmp_path: Path) -> None:
        """A second storage for the same folder goes on counting."""
        if not self.persistent:
            pytest.skip("the storage is not persistent")
        handle = await added(storage)
        output = Output(handle)
        await storage.commit([output.chunk(b"a\n"), output.gap(1), end_of(handle)])
        before = await totals(storage)
        await storage.close()
        again = self.make_storage(tmp_path)
        await again.open()
        try:
            assert await totals(again) == before
            await again.commit([output.chunk(b"b\n")])
            assert (await totals(again))[Counted.OUTPUT_LINES, _STDOUT] == 2
        finally:
            await again.close()

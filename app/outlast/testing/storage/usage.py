"""Conformance tests of the resources that runs use."""

from pathlib import Path

import pytest

from outlast.model.process import Run
from outlast.model.usage import PeakUsage, RunUsage, UsageSample
from outlast.storage.base import BeginRun, PurgeProcess, RecordUsage, Storage
from outlast.testing.storage.samples import EPOCH_MS, added, end_of
from outlast.testing.storage.suite import StorageSuite

_LOW = PeakUsage(*range(10, 17))
_HIGH = PeakUsage(*range(2**52, 2**52 + 7))


def _history(*values: int) -> tuple[UsageSample, ...]:
    return tuple(UsageSample(EPOCH_MS + n, 1, 2, None if n % 2 else n, n, n, n << 30, n or None) for n in values)


class UsageConformance(StorageSuite):
    """The contract's promises about resources."""

    async def test_usage_comes_back(self, storage: Storage) -> None:
        """Usage is read before and after the end of a run, with unknown figures, and for an unknown run."""
        handle = await added(storage)
        assert await storage.usage(handle, 1) == RunUsage()
        assert await storage.usage(handle, 2) is None
        assert await storage.usage(handle + 1, 1) is None
        some = RunUsage(peak=_HIGH._replace(pss_bytes=None, open_files=None), history=_history(0, 1, 2))
        await storage.commit([RecordUsage(handle, 1, some)])
        assert await storage.usage(handle, 1) == some
        await storage.commit([end_of(handle)])
        assert await storage.usage(handle, 1) == some

    async def test_peaks_never_fall(self, storage: Storage) -> None:
        """Lower peaks change nothing, and an empty history keeps the one before."""
        handle = await added(storage)
        await storage.commit([end_of(handle), RecordUsage(handle, 1, RunUsage(peak=_HIGH, history=_history(1, 2)))])
        await storage.commit([RecordUsage(handle, 1, RunUsage(peak=_LOW))])
        assert await storage.usage(handle, 1) == RunUsage(peak=_HIGH, history=_history(1, 2))

    async def test_a_history_is_replaced(self, storage: Storage) -> None:
        """A history replaces the one before as a whole, and absent peaks change nothing."""
        handle = await added(storage)
        await storage.commit([end_of(handle), RecordUsage(handle, 1, RunUsage(peak=_HIGH, history=_history(1, 2)))])
        await storage.commit([RecordUsage(handle, 1, RunUsage(history=_history(3)))])
        assert await storage.usage(handle, 1) == RunUsage(peak=_HIGH, history=_history(3))

    @pytest.mark.parametrize("figure", PeakUsage._fields)
    async def test_each_peak_rises_separately(self, storage: Storage, figure: str) -> None:
        """A figure rises from unknown and from a lower value, and returns to neither."""
        handle = await added(storage)
        for value, expected in [(None, None), (3, 3), (None, 3), (2, 3), (4, 4)]:
            peak = PeakUsage(**{figure: value})
            await storage.commit([RecordUsage(handle, 1, RunUsage(peak=peak))])
            assert await storage.usage(handle, 1) == RunUsage(peak=PeakUsage(**{figure: expected}))

    async def test_usage_of_an_unknown_process_is_ignored(self, storage: Storage) -> None:
        """Usage of a purged or unknown process and of an unknown run is ignored; a purge deletes usage."""
        handle = await added(storage)
        usage = RunUsage(peak=_LOW, history=_history(1))
        await storage.commit([RecordUsage(handle, 1, usage), RecordUsage(handle, 2, usage)])
        await storage.commit([RecordUsage(handle + 7, 1, usage)])
        assert await storage.usage(handle, 2) is None
        await storage.commit([PurgeProcess(handle), RecordUsage(handle, 1, usage)])
        assert await storage.usage(handle, 1) is None

    async def test_usage_of_an_earlier_run_stays_readable(self, storage: Storage) -> None:
        """A run's usage is read and recorded after the next run has begun."""
        handle = await added(storage)
        first = RunUsage(peak=_LOW, history=_history(1))
        await storage.commit([RecordUsage(handle, 1, first), end_of(handle)])
        await storage.commit([BeginRun(handle, Run(number=2, pid=4712, started_at_ms=EPOCH_MS + 2))])
        assert await storage.usage(handle, 1) == first
        assert await storage.usage(handle, 2) == RunUsage()
        await storage.commit([RecordUsage(handle, 1, RunUsage(peak=_HIGH))])
        assert await storage.usage(handle, 1) == RunUsage(peak=_HIGH, history=_history(1))

    async def test_usage_outlasts_the_storage(self, storage: Storage, tmp_path: Path) -> None:
        """A second storage for the same folder finds the usage."""
        if not self.persistent:
            pytest.skip("the storage is not persistent")
        handle = await added(storage)
        usage = RunUsage(peak=_LOW, history=_history(1))
        await storage.commit([RecordUsage(handle, 1, usage)])
        await storage.close()
        again = self.make_storage(tmp_path)
        await again.open()
        try:
            assert await again.usage(handle, 1) == usage
        finally:
            await again.close()

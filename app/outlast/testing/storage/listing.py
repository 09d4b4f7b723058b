"""Conformance tests of lists: pages, conditions, bounds on time, both orders."""

from dataclasses import replace

from outlast.model.process import ExitStatus, Order, ProcessQuery, Reason, Status
from outlast.storage.base import EndRun, PurgeProcess, Storage
from outlast.testing.storage.samples import EPOCH_MS, added, end_of, new_process
from outlast.testing.storage.suite import StorageSuite


class ListingConformance(StorageSuite):
    """The contract's promises about lists of processes."""

    async def test_pages_are_newest_first_without_gap_or_repeat(self, storage: Storage) -> None:
        """`before_handle` continues a list, also while processes are added at its head."""
        handles = [await added(storage) for _ in range(10)]
        seen: list[int] = []
        while page := await storage.processes(ProcessQuery(limit=3, before_handle=seen[-1] if seen else None)):
            assert len(page) <= 3
            seen += [process.handle for process in page]
            await added(storage)
        assert seen == handles[::-1]

    async def test_lists_are_filtered(self, storage: Storage) -> None:
        """Conditions on status, name, tags and start time apply, alone and together, in both orders."""
        first, second, third = (EPOCH_MS + n * 1000 for n in range(3))
        a = await added(storage, new_process(started_at_ms=first, name="db", team="a"))
        web = await added(storage, new_process(started_at_ms=second, name="app", team="a", tier="web"))
        b = await added(storage, new_process(started_at_ms=third, name="app", team="b", tier="web"))
        plain = await added(storage, new_process(started_at_ms=third + 1))
        killed = ExitStatus(reason=Reason.OOM_KILLED, signal=9, ended_at_ms=EPOCH_MS)
        await storage.commit([end_of(web), EndRun(b, 1, killed)])
        for query, expected in [
            (ProcessQuery(), [plain, b, web, a]),
            (ProcessQuery(status=Status.RUNNING), [plain, a]),
            (ProcessQuery(status=Status.EXITED), [web]),
            (ProcessQuery(status=Status.SIGNALED), []),
            (ProcessQuery(status=Status.OOM_KILLED), [b]),
            (ProcessQuery(tags={"team": "a"}), [web, a]),
            (ProcessQuery(tags={"team": "a", "tier": "web"}), [web]),
            (ProcessQuery(tags={"team": "web"}), []),
            (ProcessQuery(tags={"team": "a"}, status=Status.RUNNING), [a]),
            (ProcessQuery(since_ms=second), [plain, b, web]),
            (ProcessQuery(until_ms=third), [b, web, a]),
            (ProcessQuery(since_ms=second, until_ms=third), [b, web]),
            (ProcessQuery(since_ms=second, until_ms=third, status=Status.EXITED), [web]),
            (ProcessQuery(since_ms=second, status=Status.RUNNING), [plain]),
            (ProcessQuery(until_ms=third, tags={"tier": "web"}), [b, web]),
            (ProcessQuery(until_ms=second, tags={"tier": "web"}, status=Status.EXITED), [web]),
            (ProcessQuery(name="app"), [b, web]),
            (ProcessQuery(name="App"), []),
            (ProcessQuery(name="app", status=Status.EXITED), [web]),
            (ProcessQuery(name="app", tags={"team": "b"}), [b]),
            (ProcessQuery(name="db", since_ms=second), []),
            (ProcessQuery(tags={"tier": "web"}, limit=1), [b]),
            (ProcessQuery(tags={"tier": "web"}, after_handle=web), [b]),
            (ProcessQuery(after_handle=a, before_handle=plain, limit=1), [b]),
            (ProcessQuery(tags={"tier": "web"}, before_handle=b), [web]),
            (ProcessQuery(status=Status.RUNNING, before_handle=plain, limit=1), [a]),
            (ProcessQuery(since_ms=second, before_handle=b), [web]),
        ]:
            found = [process.handle for process in await storage.processes(query)]
            assert found == expected, query
            if query.limit > 1:
                oldest = await storage.processes(replace(query, order=Order.OLDEST))
                assert [process.handle for process in oldest] == expected[::-1], query

    async def test_pages_of_the_oldest_continue_after_a_handle(self, storage: Storage) -> None:
        """`after_handle` continues a list that begins with the oldest, up to the processes added meanwhile."""
        handles = [await added(storage) for _ in range(4)]
        seen: list[int] = []
        for _ in range(3):
            after = seen[-1] if seen else None
            page = await storage.processes(ProcessQuery(limit=2, after_handle=after, order=Order.OLDEST))
            seen += [process.handle for process in page]
            handles.append(await added(storage))
        assert seen == handles[:6]

    async def test_bounds_on_time_cut_a_range_out_of_the_list(self, storage: Storage) -> None:
        """After the clock was set back, the latest start so far counts, whatever is purged later."""
        starts = (100, 300, 200, 250, 400, 350)
        handles = [await added(storage, new_process(started_at_ms=EPOCH_MS + ms)) for ms in starts]
        await storage.commit([PurgeProcess(handles[1])])
        for since, until, expected in [
            (None, None, [0, 2, 3, 4, 5]),
            (101, None, [2, 3, 4, 5]),
            (300, 399, [2, 3]),
            (None, 299, [0]),
            (301, None, [4, 5]),
            (401, None, []),
            (400, 300, []),
        ]:
            query = ProcessQuery(
                since_ms=None if since is None else EPOCH_MS + since,
                until_ms=None if until is None else EPOCH_MS + until,
                order=Order.OLDEST,
            )
            found = [process.handle for process in await storage.processes(query)]
            assert found == [handles[n] for n in expected], query

    async def test_a_purge_moves_no_other_process_in_time(self, storage: Storage) -> None:
        """The time of a process is at least that of the newest one stored when it was added, also if that is purged."""
        first = await added(storage, new_process(started_at_ms=EPOCH_MS + 100))
        second = await added(storage, new_process(started_at_ms=EPOCH_MS + 50))  # the clock was set back
        await storage.commit([PurgeProcess(first)])
        third = await added(storage, new_process(started_at_ms=EPOCH_MS + 60))
        since = ProcessQuery(since_ms=EPOCH_MS + 100)
        assert [process.handle for process in await storage.processes(since)] == [third, second]
        await storage.commit([PurgeProcess(second), PurgeProcess(third)])
        await added(storage, new_process(started_at_ms=EPOCH_MS + 70))  # no process is stored before it
        assert await storage.processes(since) == []

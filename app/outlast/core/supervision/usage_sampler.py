"""Looking at what live processes take of the machine, every few seconds, on a thread beside the event loop."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from outlast.core.output.committer import Committer
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.usage import procfs
from outlast.core.views import UsageView
from outlast.model.errors import NotFound, OutlastError
from outlast.model.process import Process
from outlast.model.usage import UsageSample
from outlast.storage import Storage

log = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_S = 1.0
_STORE_EVERY_S = 300.0  # of a thousand quiet processes, more often would be more than they print
_STEP = 32  # processes looked at in one go: then whoever waits for a figure has a turn


class UsageSampler:
    """Keeps the `UsageTrack` of each live process going, and answers for it."""

    def __init__(self, storage: Storage, committer: Committer, live: Callable[[], Iterable[LiveProcess]]) -> None:
        """Args are where to read and store, and what to look at: all live processes."""
        self._storage = storage
        self._committer = committer
        self._live = live
        self._trees = procfs.Trees()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")
        self._task: asyncio.Task[None] | None = None
        self._stored_at = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.submit(lambda: None)  # so that the thread is there from the start, and not from the first process
        self._task = asyncio.create_task(self._run(), name="usage")

    async def stop(self) -> None:
        """End, with what is known handed to the committer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._store()

    async def of(self, process: Process, live: LiveProcess | None, run: int | None) -> UsageView:
        """Tell what a run takes now, and what it took.

        Args:
            process: whose.
            live: the same, if it is live.
            run: number of the run; None: the current or last one.

        Raises:
            NotFound: it had no such run.
            StorageUnavailable: the store can't be read now.
        """
        number = process.run.number if run is None else run
        if live is not None and live.run.number == number:
            await self._load(live)
            current = None
            if not live.ended and live.started:
                sampled = await self._sample([live], {}, with_pss=True)
                current = None if live.ended or not sampled else live.usage.add(sampled[0][1], keep=False)
            return UsageView(process=process, run=number, current=current, usage=live.usage.usage())
        usage = await self._storage.usage(process.handle, number)
        if usage is None:
            raise NotFound(f"process {process.run.pid} has no run {number}; its last is {process.run.number}")
        return UsageView(process=process, run=number, current=None, usage=usage)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except OutlastError as exc:
                log.debug("resources are not sampled now: %s", exc)  # the store says so itself, louder
            except Exception:  # figures are never worth more than what they are of
                log.exception("resources could not be sampled")

    async def _tick(self) -> None:
        now, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        running = [live for live in self._live() if live.handle and live.started and not live.ended]
        due = [live for live in running if live.usage.is_due(now, (now_ms - live.run.started_at_ms) / 1000)]
        pids: Mapping[str, list[int]] = {}
        if any(live.usage.group is None for live in due):
            leaders = {live.run.pid: live.key for live in running if live.usage.group is None}
            pids = await self._aside(lambda: self._trees.look(leaders))
        for start in range(0, len(due), _STEP):
            step = due[start : start + _STEP]
            for live in step:
                await self._load(live)
            for live, sample in await self._sample(step, pids):
                if not live.ended:
                    live.usage.add(sample, keep=True)
        if now >= self._stored_at + _STORE_EVERY_S:
            self._stored_at = now
            self._store()

    async def _sample(
        self, processes: Sequence[LiveProcess], pids: Mapping[str, list[int]], *, with_pss: bool = False
    ) -> list[tuple[LiveProcess, UsageSample]]:
        """Look at processes; `pids` are the trees of those that have no group, as far as they are known."""

        def look() -> list[tuple[LiveProcess, UsageSample]]:
            found = []
            for live in processes:
                sample = self._look(live, pids, with_pss=with_pss or live.usage.wants_pss)
                if sample is not None:
                    found.append((live, sample))
            return found

        return await self._aside(look)

    def _look(self, live: LiveProcess, pids: Mapping[str, list[int]], *, with_pss: bool) -> UsageSample | None:
        """On the thread."""
        sample = live.usage.look(with_pss=with_pss)
        if sample is not None:
            return sample
        own = pids.get(live.key) or self._trees.look({live.run.pid: live.key})[live.key]
        return procfs.measure(own, with_pss=with_pss)

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _load(self, live: LiveProcess) -> None:
        if not live.usage.loaded:
            live.usage.load(await self._storage.usage(live.handle, live.run.number))

    def _store(self) -> None:
        for live in self._live():
            if live.handle and not live.ended:
                live.usage.store(self._committer, live.handle, live.run.number)

"""Sampling of the resources that live processes use, every few seconds, on a thread beside the event loop."""

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
from outlast.model.shortage import shortages_told
from outlast.model.usage import UsageSample
from outlast.storage import Storage

log = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_S = 1.0
_STORE_INTERVAL_S = 300.0  # stored more often, the usage of a thousand quiet processes would exceed their output
_BATCH_PROCESSES = 32  # measured in one go; then the thread is free for callers that wait for a figure


class UsageSampler:
    """The task that samples all live processes, and stores their usage."""

    def __init__(
        self,
        storage: Storage,
        committer: Committer,
        live: Iterable[LiveProcess],
        registered: asyncio.Event,
    ) -> None:
        """Prepare a sampler.

        Args:
            storage: where the usage of ended runs, and of earlier daemons, is read.
            committer: gets the usage to store.
            live: all live processes, whenever it is iterated.
            registered: set by each new run; the sampler clears the event.
        """
        self._storage = storage
        self._committer = committer
        self._live = live
        self._registered = registered
        self._trees = procfs.Trees()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")
        self._task: asyncio.Task[None] | None = None
        self._stored_at = time.monotonic()

    def start(self) -> None:
        """Start to sample."""
        self._thread.submit(lambda: None)  # starts the thread now, so that the daemon's memory does not grow later
        self._task = asyncio.create_task(self._run(), name="usage")

    async def stop(self) -> None:
        """Stop sampling, and submit the usage so far."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._submit_all()

    async def usage_of(self, process: Process, live: LiveProcess | None, run: int | None) -> UsageView:
        """Return the resources of a run: now, its peaks and its history.

        Args:
            process: the process.
            live: its current run, if it is live.
            run: number of the run; None means the current or last one.

        Raises:
            NotFound: the process has no such run.
            StorageUnavailable: the store cannot be read now.
        """
        number = process.run.number if run is None else run
        if live is not None and live.run.number == number:
            await self._load_stored(live)
            current = None
            if not live.ended and live.started:
                sampled = await self._sample([live], {}, with_pss=True)
                current = None if live.ended or not sampled else live.usage.add_sample(sampled[0][1], keep=False)
            return UsageView(process=process, run=number, current=current, usage=live.usage.usage())
        usage = await self._storage.usage(process.handle, number)
        if usage is None:
            raise NotFound(f"process {process.run.pid} has no run {number}; its last is {process.run.number}")
        return UsageView(process=process, run=number, current=None, usage=usage)

    async def _run(self) -> None:
        while True:
            await self._wait()
            try:
                await self._tick()
            except OutlastError as exc:
                log.debug("resource usage is not sampled now: %s", exc)  # the committer logs this, as an error
            except Exception:  # a failed sample must not end the daemon
                log.exception("resource usage could not be sampled")

    async def _wait(self) -> None:
        """Wait until a sample may be due. A daemon without live processes sleeps until the next start."""
        self._registered.clear()
        delay_s = self._delay_s()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if delay_s is None else delay_s - _TICK_S):
                await self._registered.wait()
        await asyncio.sleep(_TICK_S)

    def _delay_s(self) -> float | None:
        due = [live.usage.next_at for live in self._live if not live.ended]
        return max(_TICK_S, min(due) - time.monotonic()) if due else None

    async def _tick(self) -> None:
        now = time.monotonic()
        running = [live for live in self._live if live.recorder is not None and live.started and not live.ended]
        due = [live for live in running if live.usage.is_due(now, live.clock.age_s)]
        pids: Mapping[str, list[int]] = {}
        if any(live.usage.group is None for live in due):
            leaders = {live.run.pid: live.key for live in running if live.usage.group is None}
            pids = await self._in_thread(lambda: self._trees.find_pids(leaders))
        for start in range(0, len(due), _BATCH_PROCESSES):
            batch = due[start : start + _BATCH_PROCESSES]
            for live in batch:
                await self._load_stored(live)
            for live, sample in await self._sample(batch, pids):
                if not live.ended:
                    live.usage.add_sample(sample, keep=True)
        if now >= self._stored_at + _STORE_INTERVAL_S:
            self._stored_at = now
            self._submit_all()

    async def _sample(
        self, processes: Sequence[LiveProcess], pids: Mapping[str, list[int]], *, with_pss: bool = False
    ) -> list[tuple[LiveProcess, UsageSample]]:
        """Measure processes. `pids`: by run key, the trees of those without a cgroup, as far as they are known."""

        def measure_all() -> list[tuple[LiveProcess, UsageSample]]:
            found = []
            for live in processes:
                sample = self._measure(live, pids, with_pss=with_pss or live.usage.wants_pss)
                if sample is not None:
                    found.append((live, sample))
            return found

        return await self._in_thread(measure_all)

    def _measure(self, live: LiveProcess, pids: Mapping[str, list[int]], *, with_pss: bool) -> UsageSample | None:
        """Measure one process. Runs on the thread."""
        sample = live.usage.measure_group(with_pss=with_pss)
        if sample is not None:
            return sample
        own = pids.get(live.key) or self._trees.find_pids({live.run.pid: live.key})[live.key]
        return procfs.measure(own, with_pss=with_pss)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with shortages_told("measure processes"):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _load_stored(self, live: LiveProcess) -> None:
        if not live.usage.loaded:
            live.usage.load_stored(await self._storage.usage(live.handle, live.run.number))

    def _submit_all(self) -> None:
        for live in self._live:
            if live.recorder is not None and not live.ended:
                live.usage.submit_if_changed(self._committer, live.handle, live.run.number)

"""Threads for searches: a regular expression may take long over a line, and the event loop must not wait for it."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

from outlast.model.shortage import shortages_told

T = TypeVar("T")


class Lease:
    """The exclusive use of one thread, for one piece of work at a time. A context manager that releases it."""

    def __init__(self, threads: ThreadPoolExecutor, release: Callable[[], None]) -> None:
        self._threads = threads
        self._release = release
        self._job: Future[Any] | None = None

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` on the thread, and return its result.

        Raises:
            OutOfResources: the thread cannot be started now.
        """
        with shortages_told("start a thread"):
            job = self._threads.submit(work)
        self._job = job
        return await asyncio.wrap_future(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._job is None or self._job.done():
            self._release()
            return
        # The caller was cancelled, but the work cannot be: until it ends, it occupies the thread and its memory.
        loop = asyncio.get_running_loop()

        def on_done(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and no caller waits
                loop.call_soon_threadsafe(self._release)

        self._job.add_done_callback(on_done)


class WorkerPool:
    """A few threads, leased in the order in which callers ask for one."""

    def __init__(self, workers: int, name: str) -> None:
        self._free = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def acquire(self, timeout_s: float | None = None) -> Lease:
        """Wait for a free thread, at most `timeout_s`, and lease it.

        Raises:
            TimeoutError: no thread was free in time.
        """
        async with asyncio.timeout(timeout_s):
            await self._free.acquire()
        return Lease(self._threads, self._free.release)

    def close(self) -> None:
        """Accept no more work. What runs already ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

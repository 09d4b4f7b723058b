"""Looking at lines on threads of its own: an expression may take its time over a line, and nobody else waits for it."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Lease:
    """The right to one thread, for one piece of work after the other. A context manager: its end gives it back."""

    def __init__(self, threads: ThreadPoolExecutor, give_back: Callable[[], None]) -> None:
        self._threads = threads
        self._give_back = give_back
        self._job: Future[Any] | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Do it on the thread."""
        job = self._threads.submit(work)
        self._job = job
        return await asyncio.wrap_future(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._job is None or self._job.done():
            self._give_back()
            return
        # Whoever was cancelled has not ended the work: until it ends, it has the thread and what it looks at.
        loop = asyncio.get_running_loop()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(self._give_back)

        self._job.add_done_callback(tell)


class WorkerPool:
    """A few turns, given in the order in which they are asked for."""

    def __init__(self, at_once: int, name: str) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=name)

    async def turn(self, wait_s: float | None = None) -> Lease:
        """Wait for a turn.

        Args:
            wait_s: no longer than this, if there is none at once.

        Raises:
            TimeoutError: there was none in time.
        """
        async with asyncio.timeout(wait_s):
            await self._turns.acquire()
        return Lease(self._threads, self._turns.release)

    def close(self) -> None:
        """Take no more work. What is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

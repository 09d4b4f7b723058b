"""Waiting until a condition holds."""

import asyncio
import itertools
from collections.abc import Callable


class Condition:
    """A set of waiters that check their condition again whenever `wake` is called."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return len(self._waiters)

    async def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `until()` is true, checked now and after each `wake`. Return False after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not until():
            if deadline is not None and loop.time() >= deadline:
                return False
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.add(future)
            timer = None if deadline is None else loop.call_at(deadline, _resolve, future)
            try:
                await future
            finally:
                self._waiters.discard(future)
                if timer is not None:
                    timer.cancel()
        return True

    async def wait_change(self, timeout_s: float) -> None:
        """Wait until `wake` is called, or for `timeout_s`."""
        is_later = itertools.chain([False], itertools.repeat(True))
        await self.wait(lambda: next(is_later), timeout_s)

    def wake(self) -> None:
        """Let every waiter check its condition again."""
        if self._waiters:
            waiters, self._waiters = self._waiters, set()
            for future in waiters:
                _resolve(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

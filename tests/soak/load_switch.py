"""When there is load and when there is none: figures are compared at moments at which nothing goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class LoadSwitch:
    """Lets load through, or waits until there is none.

    Attributes:
        calm: no daemon and no shim is being killed.
    """

    def __init__(self) -> None:
        self.calm = True
        self._is_open = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running = 0

    @property
    def is_open(self) -> bool:
        """Whether load goes on."""
        return self._is_open.is_set()

    @contextlib.asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Wait until the switch is open, and be inside."""
        await self._is_open.wait()
        self._running += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._is_idle.set()

    def open(self) -> None:
        """Let load through."""
        self._is_open.set()

    async def close(self) -> None:
        """Let nothing through, and wait until nothing is inside."""
        self._is_open.clear()
        await self._is_idle.wait()

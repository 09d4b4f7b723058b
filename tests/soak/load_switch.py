"""The switch that turns load on and off: figures are compared at moments without load."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class LoadSwitch:
    """A switch that all load waits for. Switching off waits until the load under way has ended.

    Attributes:
        calm: whether neither daemon nor shim is being restarted.
    """

    def __init__(self) -> None:
        self.calm = True
        self._is_on = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running = 0

    @property
    def is_on(self) -> bool:
        """Whether load is on."""
        return self._is_on.is_set()

    @contextlib.asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Wait until load is on, and count as load."""
        await self._is_on.wait()
        self._running += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._is_idle.set()

    def turn_on(self) -> None:
        """Turn load on."""
        self._is_on.set()

    async def turn_off(self) -> None:
        """Turn load off, and wait until none is under way."""
        self._is_on.clear()
        await self._is_idle.wait()

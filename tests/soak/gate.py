"""When there is load and when there is none: figures are compared at moments at which nothing goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Gate:
    """Lets load through, or waits until there is none.

    Attributes:
        calm: no daemon and no shim is being killed.
    """

    def __init__(self) -> None:
        self.calm = True
        self._is_open = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._inside = 0

    @property
    def is_open(self) -> bool:
        """Whether load goes on."""
        return self._is_open.is_set()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the gate is open, and be inside."""
        await self._is_open.wait()
        self._inside += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._is_empty.set()

    def open(self) -> None:
        """Let load through."""
        self._is_open.set()

    async def close(self) -> None:
        """Let nothing through, and wait until nothing is inside."""
        self._is_open.clear()
        await self._is_empty.wait()

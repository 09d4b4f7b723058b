"""How often output is committed that nobody watches: as often as its commits are cheap.

A commit costs nearly the same whether it carries one line or a thousand: it writes whole pages, and syncs. So what can
wait is held back for a multiple of what the last commit took, and goes with the next. The shim keeps it meanwhile.
"""

import asyncio
import contextlib

# Of a store that takes a millisecond, what nobody watches is committed once a second: that is all it may ask of it.
_REST = 1000
# What nobody watches is stored within this time, whatever its commits cost. A file's pages wait as long for their disk.
LONGEST_S = 5.0


class FlushPolicy:
    """Tells the one who commits when it is time to.

    Attributes:
        is_holding: something is held back now.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: when so much waits, it is time."""
        self.is_holding = False
        self._most_bytes = most_bytes
        self._bytes = 0
        self._next_at = 0.0
        self._hurry = asyncio.Event()

    def add(self, count: int) -> None:
        """Say that `count` bytes wait which can be held back."""
        self._bytes += count
        if self._bytes >= self._most_bytes:
            self._hurry.set()

    def hurry(self) -> None:
        """Say that somebody waits for what waits now."""
        self._hurry.set()

    async def turn(self) -> None:
        """Return when it is time: at once if somebody waits, or if the last commit is long enough ago."""
        left_s = self._next_at - asyncio.get_running_loop().time()
        if left_s > 0 and not self._hurry.is_set():
            self.is_holding = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), left_s)
            self.is_holding = False

    def taken(self) -> None:
        """Say that nothing waits any more."""
        self._bytes = 0
        self._hurry.clear()

    def rest(self, took_s: float) -> None:
        """Say that a commit has just ended, and what it took."""
        self._next_at = asyncio.get_running_loop().time() + min(_REST * took_s, LONGEST_S)

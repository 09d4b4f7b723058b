"""When output that nobody follows is committed: as often as commits are cheap.

A commit costs nearly the same whether it carries one line or a thousand: it writes whole pages, and syncs. Output that
can wait is therefore held back for a multiple of the last commit's duration, and the shim keeps it meanwhile.
"""

import asyncio
import contextlib

_PAUSE_PER_COMMIT = 1000
"""Pause after a commit, as a multiple of its duration: a store that takes 1 ms is used once a second."""

MAX_PAUSE_S = 5.0
"""Maximum time that output is held back, however slow commits are. The kernel keeps dirty pages about as long."""


class FlushPolicy:
    """The decision when the committer starts its next commit.

    Attributes:
        is_holding: whether output is held back now.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: how much output is held back at most."""
        self.is_holding = False
        self._max_bytes = max_bytes
        self._bytes = 0
        self._next_at = 0.0
        self._flush = asyncio.Event()

    def hold_back(self, count: int) -> None:
        """Count `count` bytes of output that can wait."""
        self._bytes += count
        if self._bytes >= self._max_bytes:
            self._flush.set()

    def flush_now(self) -> None:
        """End the pause: somebody waits for what is queued."""
        self._flush.set()

    async def wait(self) -> None:
        """Wait until the next commit is due: now if somebody waits, else when the pause is over."""
        left_s = self._next_at - asyncio.get_running_loop().time()
        if left_s > 0 and not self._flush.is_set():
            self.is_holding = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flush.wait(), left_s)
            self.is_holding = False

    def drained(self) -> None:
        """Note that the queue is empty."""
        self._bytes = 0
        self._flush.clear()

    def committed(self, took_s: float) -> None:
        """Note that a commit has just ended, after `took_s`."""
        self._next_at = asyncio.get_running_loop().time() + min(_PAUSE_PER_COMMIT * took_s, MAX_PAUSE_S)

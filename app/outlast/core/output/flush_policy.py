"""When output is committed: as often as commits are cheap, and sooner if somebody follows it.

A commit costs nearly the same whether it carries one line or a thousand: it writes whole pages, and syncs. Output is
therefore held back for a multiple of the last commit's duration, and the shim keeps it meanwhile.
"""

import asyncio
import contextlib

_PAUSE_PER_COMMIT = 1000
"""Pause after a commit, as a multiple of its duration: a store that takes 1 ms is used once a second."""

MAX_PAUSE_S = 5.0
"""Maximum time that output is held back, however slow commits are. The kernel keeps dirty pages about as long."""

FOLLOWED_PAUSE_S = 0.1
"""Maximum time that output is held back which somebody follows: so much of what was seen may be lost if all dies."""


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
        self._timer: asyncio.TimerHandle | None = None

    def hold_back(self, count: int, *, is_followed: bool) -> None:
        """Count `count` bytes of output that can wait; `is_followed`: not for longer than `FOLLOWED_PAUSE_S`."""
        self._bytes += count
        if self._bytes >= self._max_bytes:
            self._flush.set()
        elif is_followed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FOLLOWED_PAUSE_S, self._flush.set)

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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def committed(self, took_s: float) -> None:
        """Note that a commit has just ended, after `took_s`."""
        self._next_at = asyncio.get_running_loop().time() + min(_PAUSE_PER_COMMIT * took_s, MAX_PAUSE_S)

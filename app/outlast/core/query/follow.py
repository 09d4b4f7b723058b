"""The loop of every follower: read what is there, then wait for more. History and live output take the same path.

A follower is a reader with a position in something that grows. Nothing is queued for it: a slow one reads older rows,
and does not slow down others.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeVar

from outlast.model.errors import StorageUnavailable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_RETRY_S = 0.5
_MIN_READ_S = 1.0
"""A read gets at least this long, even if a heartbeat is due sooner."""


class FollowInterrupted(Exception):
    """The end of a follow stream because the daemon is stopping. The client can continue it at the next daemon."""


class Reader(Protocol[T_co]):
    """A position in something that grows: what is stored and, of output, what followers see before."""

    @property
    def is_interrupted(self) -> bool:
        """Whether the daemon is stopping."""

    def mark(self) -> None:
        """Note how much there is now. `is_over` and `wait` compare with this mark."""

    def read_cached(self) -> Sequence[T_co] | None:
        """Return what `read` would, if it is in memory; None if the store has to be read."""

    async def read(self) -> Sequence[T_co]:
        """Return what comes next, and advance behind it; nothing if there is nothing more now.

        A read that is cancelled must not lose anything: the next one continues where it was.

        Raises:
            StorageUnavailable: the store cannot be read now.
        """

    def is_over(self) -> bool:
        """Return whether nothing can come after the mark. To be called after a read that found nothing."""

    async def wait(self, timeout_s: float) -> None:
        """Wait until something comes after the mark, or the daemon is stopping, but at most `timeout_s`."""


async def follow(reader: Reader[T], heartbeat_s: float) -> AsyncGenerator[Sequence[T] | None, None]:
    """Yield what is there, then what comes, until `is_over`.

    While the store cannot be read, the read is repeated, so that the client keeps its connection.

    Yields:
        Items in order, some at a time. After `heartbeat_s` without any: an empty sequence if there is nothing more, or
        None if the store cannot be read, so that nobody knows.

    Raises:
        FollowInterrupted: the daemon is stopping.
    """
    quiet_since = time.monotonic()
    while True:
        # Before the read: what comes between the read and the wait is then after the mark, and ends the wait.
        reader.mark()
        if reader.is_interrupted:
            raise FollowInterrupted
        items = reader.read_cached()
        if items is None:
            items = await _read_in_time(reader, quiet_since + heartbeat_s - time.monotonic())
        if items is not None and not items and reader.is_over():
            return
        # After a read, and not after the wait: what has ended the wait may be an item.
        if items or time.monotonic() >= quiet_since + heartbeat_s:
            yield items
            quiet_since = time.monotonic()  # after the yield: the client may have taken its time
        elif items is not None:
            await reader.wait(max(0.0, quiet_since + heartbeat_s - time.monotonic()))


async def _read_in_time(reader: Reader[T], timeout_s: float) -> Sequence[T] | None:
    """Read within about `timeout_s`. Return None if the store could not be read."""
    try:
        async with asyncio.timeout(max(timeout_s, _MIN_READ_S)):
            return await reader.read()
    except TimeoutError:
        return None
    except StorageUnavailable:
        await asyncio.sleep(_RETRY_S)
        return None

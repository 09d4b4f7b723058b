"""Read leases: rows that a scan of all output has returned are not merged while its reader may continue.

A scan goes by row ids, and a merged row has the id of its last chunk. A reader that continues from between two chunks
that have become one row would get some lines twice, or miss them.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

LEASE_S = 600.0
"""Time after a page within which a reader may ask for the next one and miss nothing."""

_MAX_LEASES = 1000


@dataclass(frozen=True, slots=True)
class _Lease:
    expires_s: float
    low_id: int
    high_id: int
    next_position: int | None


class ReadLeases:
    """The leases on rows that scans have returned, and a lock between scans and compaction.

    Attributes:
        lease_s: how long a lease lasts.
    """

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.lease_s = lease_s
        self._leases: deque[_Lease] = deque(maxlen=_MAX_LEASES)
        self._lock = asyncio.Lock()
        self._scans = 0
        self._no_scans = asyncio.Event()

    @asynccontextmanager
    async def lock_for_scan(self) -> AsyncIterator[None]:
        """Keep compaction out while a scan reads and its lease is granted. Scans do not exclude one another."""
        async with self._lock:
            self._scans += 1
        try:
            yield
        finally:
            self._scans -= 1
            if not self._scans:
                self._no_scans.set()

    @asynccontextmanager
    async def lock_for_compaction(self) -> AsyncIterator[None]:
        """Wait until no scan reads, and keep scans out while rows are merged."""
        async with self._lock:
            while self._scans:
                self._no_scans.clear()
                await self._no_scans.wait()
            yield

    def grant(self, low_id: int, high_id: int, next_position: int | None) -> None:
        """Grant a lease on the rows of a page, whose reader may stop within it or continue from `next_position`."""
        self._leases.append(_Lease(time.monotonic() + self.lease_s, low_id, high_id, next_position))

    def release(self, position: int | None) -> None:
        """Release one lease of a page that ended at `position`: its reader has continued from there."""
        if position is not None:
            lease = next((lease for lease in self._leases if lease.next_position == position), None)
            if lease is not None:
                self._leases.remove(lease)

    def forbids_merge(self, first_id: int, last_id: int) -> bool:
        """Tell whether a reader may stand between the chunks of the rows from `first_id` to `last_id`."""
        now = time.monotonic()
        while self._leases and self._leases[0].expires_s <= now:
            self._leases.popleft()
        return any(first_id <= lease.high_id and last_id > lease.low_id for lease in self._leases)

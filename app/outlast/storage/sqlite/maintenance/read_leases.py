"""Where readers of the output of all processes may go on: there no rows may be merged.

They go by the order of row ids, and a merged row is where its last chunk was. Whoever stands between two chunks that
become one row would be given some lines twice, or never.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

KEPT_S = 600.0
"""So long after a page somebody may ask for the next and miss nothing."""

_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Place:
    until_s: float
    low_id: int
    high_id: int
    end: int | None


class ReadLeases:
    """Knows who reads, and which rows were given in the last `kept_s` seconds."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self.kept_s = kept_s
        self._places: deque[_Place] = deque(maxlen=_MOST)
        self._turn = asyncio.Lock()
        self._reading = 0
        self._nobody_reads = asyncio.Event()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Keep rows from being merged until what is read has been noted."""
        async with self._turn:
            self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1
            if not self._reading:
                self._nobody_reads.set()

    @asynccontextmanager
    async def merging(self) -> AsyncIterator[None]:
        """Keep others from reading meanwhile."""
        async with self._turn:
            while self._reading:
                self._nobody_reads.clear()
                await self._nobody_reads.wait()
            yield

    def went_on(self, end: int | None) -> None:
        """Somebody has gone on from where a piece ended: nobody is left there."""
        if end is not None:
            gone = next((place for place in self._places if place.end == end), None)
            if gone is not None:
                self._places.remove(gone)

    def note(self, low_id: int, high_id: int, end: int | None) -> None:
        """Somebody was given these rows and may stop within them, or go on from `end`."""
        self._places.append(_Place(time.monotonic() + self.kept_s, low_id, high_id, end))

    def blocks(self, first_id: int, last_id: int) -> bool:
        """Tell whether somebody may stand between the chunks of two rows."""
        now = time.monotonic()
        while self._places and self._places[0].until_s <= now:
            self._places.popleft()
        return any(first_id <= place.high_id and last_id > place.low_id for place in self._places)

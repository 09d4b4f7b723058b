"""Followers that come, read a while and go; some that stop reading and stay; readers of what is old; listings."""

import asyncio
import random
from typing import Any

import aiohttp

from harness.http_client import read_events
from tests.soak.door import BROKEN, Door, Wrong
from tests.soak.gate import Gate
from tests.soak.ledger import Ledger

_STUCK = 3
_BETWEEN_READS_S = 0.1


class Readers:
    """Reads what others write.

    Attributes:
        targets: ids of the processes that are followed; the last has printed much and has ended.
    """

    def __init__(self, door: Door, gate: Gate, ledger: Ledger, rng: random.Random) -> None:
        self.targets: list[str] = []
        self._door = door
        self._gate = gate
        self._ledger = ledger
        self._rng = rng
        self._stuck: list[asyncio.StreamWriter] = []

    async def keep_following(self, longest_s: float) -> None:
        """Follow one process after another, each for a while."""
        while True:
            async with self._gate.turn():
                try:
                    async with asyncio.timeout(self._rng.uniform(0.02, longest_s)):
                        await self._follow(self._rng.choice(self.targets))
                except (*BROKEN, RuntimeError):
                    pass
                except Wrong as exc:
                    self._ledger.find(str(exc))
            self._ledger.doing["followers"] += 1

    async def _follow(self, process_id: str) -> None:
        session = await self._door.session()
        query = self._rng.choice(["", "?tail=10", "?tail=0", "?after=7"])
        stream = self._rng.choice(["output", "stdout"])
        url = self._door.url(f"/processes/{process_id}/{stream}/follow{query}")
        before: int | None = None
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for event in read_events(response.content):
                if event.id is not None:
                    if before is not None and (event.id <= before if stream == "stdout" else event.id != before + 1):
                        raise Wrong(f"follower of {process_id}: {event.id} came after {before}")
                    before = event.id
                if not self._gate.is_open:
                    return

    async def keep_reading(self) -> None:
        """Read old output, and lists of processes."""
        while True:
            async with self._gate.turn():
                try:
                    await self._read_something()
                except Wrong as exc:
                    self._ledger.find(str(exc))
            await asyncio.sleep(_BETWEEN_READS_S)

    async def _read_something(self) -> None:
        old = self._rng.choice(list(self._ledger.kept) or self.targets)
        path = self._rng.choice(["/processes?limit=100", "/processes?status=exited&limit=20", "/health", "/info", ""])
        if path:
            await self._door.call("GET", path, 200)
            self._ledger.doing["listings"] += 1
            return
        status, raw = await self._door.call(
            "GET", f"/processes/{old}/output", 200, 404, accept="application/octet-stream"
        )
        totals = self._ledger.kept.get(old)
        if totals is not None and (status != 200 or len(raw) != totals[2]):
            raise Wrong(f"old output of {old}: {status}, {len(raw)} bytes, and not {totals[2]}")
        self._ledger.doing["reads"] += 1

    # ---- those that stop reading

    async def get_stuck(self) -> None:
        """Let some followers ask for much and read nothing of it."""
        for _ in range(_STUCK):
            _, writer = await asyncio.open_connection("127.0.0.1", self._door.port, limit=1024)
            transport: Any = writer.transport
            transport.pause_reading()
            request = (
                f"GET /api/v1/processes/{self.targets[-1]}/output/follow HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {self._door.token}\r\n\r\n"
            )
            writer.write(request.encode())
            await writer.drain()
            self._stuck.append(writer)

    def let_go(self) -> None:
        """They hang up."""
        for writer in self._stuck:
            writer.transport.abort()
        self._stuck.clear()

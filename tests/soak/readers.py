"""Readers: followers that read for a while, followers that stop reading, readers of old output, listings."""

import asyncio
import contextlib
import random
from typing import Any

from tests.soak.daemon_client import DISCONNECTED, DaemonClient, UnexpectedResult
from tests.soak.load_switch import LoadSwitch
from tests.soak.soak_log import SoakLog

_STUCK = 3
_BETWEEN_READS_S = 0.1


class Readers:
    """A group of readers of the processes of a soak.

    Attributes:
        targets: ids of the processes that are followed; the last has printed much and has ended.
    """

    def __init__(self, client: DaemonClient, switch: LoadSwitch, log: SoakLog, rng: random.Random) -> None:
        self.targets: list[str] = []
        self._client = client
        self._switch = switch
        self._log = log
        self._rng = rng
        self._stuck: list[asyncio.StreamWriter] = []

    async def keep_following(self, longest_s: float) -> None:
        """Follow one process after another, each for a while."""
        while True:
            async with self._switch.load():
                try:
                    async with asyncio.timeout(self._rng.uniform(0.02, longest_s)):
                        await self._follow(self._rng.choice(self.targets))
                except DISCONNECTED:
                    pass
                except UnexpectedResult as exc:
                    self._log.report(str(exc))
            self._log.doing["followers"] += 1

    async def _follow(self, process_id: str) -> None:
        client = await self._client.connected()
        query = self._rng.choice(["", "?tail=10", "?tail=0", "?after=7"])
        stream = self._rng.choice(["output", "stdout"])
        before: int | None = None
        path = f"/processes/{process_id}/{stream}/follow{query}"
        async with contextlib.aclosing(client.follow(path)) as events:
            async for event in events:
                if event.id is not None:
                    if before is not None and (event.id <= before if stream == "stdout" else event.id != before + 1):
                        raise UnexpectedResult(f"follower of {process_id}: {event.id} came after {before}")
                    before = event.id
                if not self._switch.is_on:
                    return

    async def keep_reading(self) -> None:
        """Read old output, and lists of processes."""
        while True:
            async with self._switch.load():
                try:
                    await self._read_something()
                except UnexpectedResult as exc:
                    self._log.report(str(exc))
            await asyncio.sleep(_BETWEEN_READS_S)

    async def _read_something(self) -> None:
        old = self._rng.choice(list(self._log.kept) or self.targets)
        path = self._rng.choice(["/processes?limit=100", "/processes?status=exited&limit=20", "/health", "/info", ""])
        if path:
            await self._client.call("GET", path, 200)
            self._log.doing["listings"] += 1
            return
        status, raw = await self._client.call(
            "GET", f"/processes/{old}/output", 200, 404, accept="application/octet-stream"
        )
        totals = self._log.kept.get(old)
        if totals is not None and (status != 200 or len(raw) != totals[2]):
            raise UnexpectedResult(f"old output of {old}: {status}, {len(raw)} bytes, and not {totals[2]}")
        self._log.doing["reads"] += 1

    # ---- those that stop reading

    async def get_stuck(self) -> None:
        """Connect followers of a large output that read nothing."""
        for _ in range(_STUCK):
            _, writer = await asyncio.open_connection("127.0.0.1", self._client.port, limit=1024)
            transport: Any = writer.transport
            transport.pause_reading()
            request = (
                f"GET /api/v1/processes/{self.targets[-1]}/output/follow HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {self._client.token}\r\n\r\n"
            )
            writer.write(request.encode())
            await writer.drain()
            self._stuck.append(writer)

    def disconnect_stuck(self) -> None:
        """Disconnect the followers that stopped reading."""
        for writer in self._stuck:
            writer.transport.abort()
        self._stuck.clear()

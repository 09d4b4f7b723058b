"""A follower over Server-Sent Events: it resumes with Last-Event-ID after each kill, and keeps the events as sent."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp

from harness.http_client import Event, SseParser, UnexpectedStatusError, resume
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.journal import now_ms
from tests.chaos.plan import FollowerPlan

_SLOW_READ_BYTES = 16 << 10
_END_OF_EVENT = b"\n\n"
EOF = b"event: eof\n"


class Follower:
    """A follower of one process. The file `path` gets the bytes of the events that it was sent, without comments."""

    def __init__(self, plan: FollowerPlan, path: Path) -> None:
        self.plan = plan
        self.path = path
        self.last_id = 0
        self.events = 0
        self.connections = 0
        self.finished_ms: int | None = None
        self.complaints: list[str] = []

    async def run(self, client: DaemonClient, process_id: str) -> None:
        """Follow until `eof`, over as many daemons as that takes."""
        await asyncio.sleep(self.plan.join_s)
        path = f"/processes/{process_id}/{self.plan.stream}/follow"
        async with contextlib.aclosing(resume(lambda last_id: self._connect(client, path, last_id))) as events:
            async for event in events:
                if event.kind == "eof":
                    self.finished_ms = now_ms()
                elif event.id is not None:
                    self.events += 1
                    self.last_id = event.id

    async def _connect(self, client: DaemonClient, path: str, last_id: int | None) -> AsyncGenerator[Event, None]:
        await client.wait_for_daemon()
        query = f"?tail={self.plan.tail}" if self.plan.tail is not None else ""
        headers = None if last_id is None else {"Last-Event-ID": str(last_id)}
        http_client = client.slow if self.plan.pause_s else client
        try:
            async with http_client.stream(path + query, headers=headers) as content:
                self.connections += 1
                async for event in self._events(content):
                    yield event
        except UnexpectedStatusError as exc:
            self.complaints.append(str(exc))

    async def _events(self, content: aiohttp.StreamReader) -> AsyncGenerator[Event, None]:
        """Read a connection at the planned pace, until it ends or the follower is to hang up."""
        parser, buffered = SseParser(), b""
        leaves_at = None if self.plan.leaves_after is None else self.events + self.plan.leaves_after
        while (leaves_at is None or self.events < leaves_at) and (data := await self._read(content)):
            *blocks, buffered = (buffered + data).split(_END_OF_EVENT)
            self._keep([block for block in blocks if EOF not in block and not block.startswith(b":")])
            for block in blocks:
                for event in parser.feed(block + _END_OF_EVENT):
                    yield event

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        if not self.plan.pause_s:
            return await content.readany()
        await asyncio.sleep(self.plan.pause_s)
        return await content.read(_SLOW_READ_BYTES)

    def _keep(self, blocks: list[bytes]) -> None:
        if blocks:
            with self.path.open("ab") as file:
                file.write(_END_OF_EVENT.join(blocks) + _END_OF_EVENT)

"""A follower over Server-Sent Events: it comes back with Last-Event-ID after each kill, and keeps what it was given."""

import asyncio
from pathlib import Path

from tests.chaos.door import BROKEN, Door
from tests.chaos.plan import FollowerPlan
from tests.chaos.sidefile import now_ms

_SLOW_READ_BYTES = 16 << 10
_LOOK_AGAIN_S = 0.01
_NEVER = 1 << 62
EOF = b"event: eof\ndata: {}"


class Follower:
    """Follows one process to the end of its output. `path` holds the events, as they came, without comments."""

    def __init__(self, plan: FollowerPlan, path: Path) -> None:
        self.plan = plan
        self.path = path
        self.last_id = 0
        self.events = 0
        self.connections = 0
        self.finished_ms: int | None = None
        self.complaints: list[str] = []

    async def run(self, door: Door, process_id: str) -> None:
        await asyncio.sleep(self.plan.join_s)
        while self.finished_ms is None:
            url = await door.url()
            try:
                await self._connect(door, f"{url}/processes/{process_id}/{self.plan.stream}/follow")
            except BROKEN:
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _connect(self, door: Door, url: str) -> None:
        headers = {"Last-Event-ID": str(self.last_id)} if self.last_id else {}
        query = f"?tail={self.plan.tail}" if self.plan.tail is not None else ""
        session = door.narrow_session if self.plan.pause_s else door.session
        async with session.get(url + query, headers=headers) as response:
            if response.status != 200:
                self.complaints.append(f"status {response.status}: {(await response.read())[:200]!r}")
                return
            self.connections += 1
            buffered = b""
            leaves_at = self.events + (self.plan.leaves_after or _NEVER)
            while self.events < leaves_at and (data := await self._read(response.content)):
                *blocks, buffered = (buffered + data).split(b"\n\n")
                self._keep(blocks)

    async def _read(self, content: asyncio.StreamReader) -> bytes:
        if not self.plan.pause_s:
            return await content.readany()
        await asyncio.sleep(self.plan.pause_s)
        return await content.read(_SLOW_READ_BYTES)

    def _keep(self, blocks: list[bytes]) -> None:
        events = [block for block in blocks if not block.startswith(b":")]
        if events and events[-1] == EOF:
            self.finished_ms = now_ms()
            events.pop()
        if not events:
            return
        with self.path.open("ab") as file:
            file.write(b"\n\n".join(events) + b"\n\n")
        self.events += len(events)
        self.last_id = int(events[-1].partition(b"\n")[0].removeprefix(b"id: "))

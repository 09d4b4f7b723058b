"""A follower over Server-Sent Events: it goes on after each kill as the Python client does, and keeps what came."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from harness.http_client import HttpClient, SseParser
from outlast.client import Disconnected, Gap, Line, OutlastError, calls
from outlast.client.async_session import AsyncSession
from outlast.client.async_transport import AsyncReply, as_disconnected
from outlast.client.request import Request
from outlast.client.subscription import Follow
from tests.chaos.daemon_client import DaemonClient
from tests.chaos.journal import now_ms
from tests.chaos.plan import FollowerPlan
from tests.support.library import SharedTransport

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
        session = AsyncSession(_PacedTransport(client, self), None)
        try:
            newest = await self._look(client, session, process_id)
            stream = _KeptStream(self, f"/processes/{process_id}/{self.plan.stream}/follow", newest)
            async with contextlib.aclosing(session.batches(stream)) as batches:
                async for _ in batches:
                    pass
        except OutlastError as exc:
            self.complaints.append(str(exc))
        else:
            self.finished_ms = now_ms()

    async def _look(self, client: DaemonClient, session: AsyncSession, process_id: str) -> int:
        """Return the number of the last stored line. When daemon and shim are dead, nothing listens for a while."""
        while True:
            await client.wait_for_daemon()
            try:
                return (await session.call(calls.look(process_id))).output.last_seq
            except Disconnected:
                await asyncio.sleep(0.05)

    def keep(self, blocks: list[bytes]) -> None:
        """Keep events as they were sent, and count them.

        Raises:
            SseError: an event is malformed.
        """
        events = [block for block in blocks if EOF not in block and not block.startswith(b":")]
        parser = SseParser()
        for event in parser.feed(b"".join(block + _END_OF_EVENT for block in events)):
            if event.id is not None:
                self.events += 1
                self.last_id = event.id
        if events:
            with self.path.open("ab") as file:
                file.write(_END_OF_EVENT.join(events) + _END_OF_EVENT)


class _KeptStream(Follow):
    """A follow stream whose follower keeps what comes, and hangs up now and then."""

    def __init__(self, follower: Follower, path: str, newest: int) -> None:
        super().__init__(path, {"tail": follower.plan.tail}, newest=newest)
        self._follower = follower
        self._leaves_at: int | None = None

    def request(self) -> Request:
        """Return the request of the next connection, and plan its end."""
        if self._follower.plan.leaves_after is not None:
            self._leaves_at = self._follower.events + self._follower.plan.leaves_after
        return super().request()

    def feed(self, data: bytes) -> list[Line | Gap]:
        """Read as every follower does.

        Raises:
            Disconnected: the follower hangs up now.
        """
        self._blocks: list[bytes] = []
        items = super().feed(data)  # which may refuse what came, and goes on from elsewhere then
        self._follower.keep(self._blocks)
        if self._leaves_at is not None and self._follower.events >= self._leaves_at and not self.is_over:
            raise Disconnected("the follower hangs up", sent=True)
        return items

    def _parse(self, blocks: list[bytes]) -> tuple[list[int], list[Line | Gap]]:
        self._blocks = blocks
        return super()._parse(blocks)


class _PacedTransport(SharedTransport):
    """Connections that are read at the planned pace."""

    def __init__(self, client: DaemonClient, follower: Follower) -> None:
        super().__init__(self._connected_client)
        self._client = client
        self._follower = follower

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AsyncReply]:
        """Connect, and count the connections."""
        async with super().open(request) as reply:
            self._follower.connections += 1
            pause_s = self._follower.plan.pause_s
            yield _SlowReply(reply, pause_s) if pause_s else reply

    async def _connected_client(self) -> HttpClient:
        await self._client.wait_for_daemon()
        return self._client.slow if self._follower.plan.pause_s else self._client


class _SlowReply(AsyncReply):
    """An answer that is read in pieces, with pauses."""

    def __init__(self, reply: AsyncReply, pause_s: float) -> None:
        super().__init__(reply._response)
        self._pause_s = pause_s

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body a piece at a time."""
        with as_disconnected():
            await asyncio.sleep(self._pause_s)
            while data := await self._response.content.read(_SLOW_READ_BYTES):
                yield data
                await asyncio.sleep(self._pause_s)

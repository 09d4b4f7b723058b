"""The Python client over the connections of a test's own client, whose daemon comes and goes."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from harness.http_client import HttpClient
from outlast import AsyncOutlast
from outlast.client import Disconnected
from outlast.client.address import Address
from outlast.client.async_session import AsyncSession
from outlast.client.async_transport import AsyncReply, AsyncTransport
from outlast.client.request import Request


class SharedTransport(AsyncTransport):
    """Connections of a client that knows where the daemon listens now."""

    def __init__(self, connected: Callable[[], Awaitable[HttpClient]]) -> None:
        """`connected`: waits for a daemon, and returns a client for it."""
        super().__init__(Address("", "", "", ""))
        self._find = connected

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AsyncReply]:
        """Send a request to the daemon that listens, and give the answer with its body unread."""
        client = await self._find()
        self._address = Address(client.url, "", "", "")
        self._session = session = client.session
        try:
            async with super().open(request) as reply:
                yield reply
        except RuntimeError as exc:
            if session.closed:
                raise Disconnected("the connections were closed", sent=True) from exc
            raise

    async def close(self) -> None:
        """Leave the connections to their owner."""


def session_over(connected: Callable[[], Awaitable[HttpClient]]) -> AsyncSession:
    """Return a driver of calls and streams over the connections of a client."""
    return AsyncSession(SharedTransport(connected), None)


def client_over(connected: Callable[[], Awaitable[HttpClient]]) -> AsyncOutlast:
    """Return a client over the connections of another one."""
    client = AsyncOutlast("http://outlast", "")
    client._session = session_over(connected)
    return client

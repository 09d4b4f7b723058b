"""Connections to a daemon inside an event loop, by aiohttp."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from outlast.client.address import Address
from outlast.client.errors import Disconnected
from outlast.client.request import Answer, Request

if TYPE_CHECKING:
    from outlast.client.async_socket import AsyncSocket

_BUFFER_BYTES = 1 << 20  # a stream that is read slowly stops the daemon only beyond it


class AsyncReply:
    """An answer whose body is still to be read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = dict(response.headers)

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            Disconnected: the connection broke.
        """
        with as_disconnected():
            return await self._response.read()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            Disconnected: the connection broke, or was silent for too long.
        """
        with as_disconnected():
            async for data in self._response.content.iter_any():
                yield data


class AsyncTransport:
    """Connections to one daemon. Tasks of one event loop may share them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None
        self._bodies: set[aiohttp.StreamReader] = set()

    async def ask(self, request: Request) -> Answer:
        """Return the whole answer, whatever its status.

        Raises:
            Disconnected: there was none.
        """
        async with self.open(request) as reply:
            return Answer(reply.status, reply.headers, await reply.read())

    @contextlib.asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AsyncReply]:
        """Send a request, and give the answer with its body unread.

        Raises:
            Disconnected: there is no answer.
        """
        url = URL(f"{self._address.url}{request.target}", encoded=True)
        with as_disconnected(self._address.where):
            response = await self._connected().request(
                request.method,
                url,
                data=request.body,
                headers=request.all_headers(self._address.token),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=request.silent_s),
                allow_redirects=False,
            )
        self._bodies.add(response.content)
        try:
            async with response:
                yield AsyncReply(response)
        finally:
            self._bodies.discard(response.content)

    @contextlib.asynccontextmanager
    async def open_socket(self, request: Request) -> "AsyncIterator[AsyncSocket]":
        """Ask for a websocket, and give the connection, which was perhaps refused.

        Raises:
            Disconnected: there is no answer.
        """
        from outlast.client.async_socket import open_socket  # noqa: PLC0415 - only terminals need it

        async with open_socket(self._address, request) as socket:
            yield socket

    async def close(self) -> None:
        """Close all connections. Streams that other tasks read end with a RuntimeError."""
        for body in self._bodies:  # aiohttp forgets them, and their readers would wait for ever
            body.set_exception(RuntimeError("the client was closed"))
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            socket = self._address.socket
            connector = aiohttp.UnixConnector(socket, limit=0) if socket else aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=_BUFFER_BYTES)
        return self._session


@contextlib.contextmanager
def as_disconnected(where: str = "") -> Iterator[None]:
    """Turn each error of a connection into a `Disconnected`. `where`: the address, while it may be connected to."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        raise Disconnected(f"no daemon answers at {where}: {exc}", sent=False) from exc
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise Disconnected(f"the connection to the daemon broke: {exc or type(exc).__name__}", sent=True) from exc

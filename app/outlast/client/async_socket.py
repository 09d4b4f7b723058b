"""A websocket to a daemon inside an event loop. Its frames are made and read by `outlast.client.frames`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit

from outlast.client.address import Address
from outlast.client.errors import Disconnected
from outlast.client.http1 import BadAnswerError, read_head
from outlast.client.request import Request

AsyncLock = asyncio.Lock

_READ_BYTES = 1 << 18
_CONNECT_S = 30.0
_SWITCHED = 101


class AsyncSocket:
    """A connection that was asked to become a websocket.

    Attributes:
        status: status of the answer.
        headers: headers of the answer; their names are capitalised.
        body: body of the answer, if it was refused.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent_s: float | None) -> None:
        """`silent_s`: time without a byte after which the connection counts as broken."""
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self._reader = reader
        self._writer = writer
        self._silent_s = silent_s

    async def ask(self, head: bytes) -> None:
        """Send the request, and read its answer."""
        self._writer.write(head)
        lines = iter((await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        try:
            _, self.status, self.headers = read_head(lines.__next__)
        except BadAnswerError as exc:
            raise Disconnected(str(exc), sent=True) from None
        length = self.headers.get("Content-Length", "")
        if self.status != _SWITCHED and length.isdecimal():
            self.body = await self._reader.readexactly(int(length))

    async def send(self, data: bytes) -> None:
        """Send bytes. Waits for as long as the daemon does not take them.

        Raises:
            Disconnected: the connection broke.
        """
        with _as_disconnected():
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self) -> bytes:
        """Return the bytes that come next.

        Raises:
            Disconnected: the connection broke, or was silent for too long.
        """
        with _as_disconnected():
            async with asyncio.timeout(self._silent_s):
                data = await self._reader.read(_READ_BYTES)
        if not data:
            raise Disconnected("the daemon closed the connection", sent=True)
        return data

    async def close(self) -> None:
        """End the connection, also for the task that reads."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def open_socket(address: Address, request: Request) -> AsyncIterator[AsyncSocket]:
    """Ask for a websocket, and give the connection, which was perhaps refused.

    Raises:
        Disconnected: there is no answer.
    """
    parts = urlsplit(address.url)
    host = parts.netloc.rpartition("@")[2]
    fields = {"Host": host, **request.all_headers(address.token)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    try:
        async with asyncio.timeout(_CONNECT_S):
            if address.socket:
                reader, writer = await asyncio.open_unix_connection(address.socket)
            else:
                is_secure = parts.scheme == "https"
                port = parts.port or (443 if is_secure else 80)
                reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=is_secure or None)
    except (OSError, TimeoutError) as exc:
        raise Disconnected(f"no daemon answers at {address.where}: {exc or type(exc).__name__}", sent=False) from exc
    opened = AsyncSocket(reader, writer, request.silent_s)
    try:
        with _as_disconnected():
            async with asyncio.timeout(request.silent_s):
                await opened.ask(f"GET {parts.path}{request.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
        yield opened
    finally:
        await opened.close()


@contextlib.contextmanager
def _as_disconnected() -> Iterator[None]:
    try:
        yield
    except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as exc:
        raise Disconnected(f"the connection to the daemon broke: {exc or type(exc).__name__}", sent=True) from exc

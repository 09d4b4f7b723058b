"""A client for daemons that come and go: its callers wait while no daemon listens."""

import asyncio
import socket
from typing import Any

import aiohttp
from aiohttp.connector import AddrInfoType

from harness.http_client import HttpClient, UnexpectedStatusError

TOKEN = "chaos"
_SMALL_BUFFER_BYTES = 16 << 10


class DaemonClient(HttpClient):
    """A client for the daemon that listens now. Each call has a connection of its own.

    Attributes:
        slow: a client with a small receive buffer, for followers that read slowly.
    """

    def __init__(self) -> None:
        super().__init__(token=TOKEN, connector=aiohttp.TCPConnector(limit=0, force_close=True))
        self.slow = HttpClient(
            token=TOKEN,
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_socket_with_small_buffer),
        )
        self._listening = asyncio.Event()

    def daemon_listens(self, url: str) -> None:
        """Let callers go on, with the daemon at `url`."""
        self.url = self.slow.url = url
        self._listening.set()

    def daemon_ends(self) -> None:
        """Let further callers wait for the next daemon."""
        self._listening.clear()

    async def wait_for_daemon(self) -> None:
        """Wait until a daemon listens."""
        await self._listening.wait()

    async def read(self, path: str, accept: str) -> bytes:
        """Return the body of a GET in the media type `accept`."""
        answer = await self.request("GET", path, headers={"Accept": accept})
        if answer.status != 200:
            raise UnexpectedStatusError("GET", path, answer.status, answer.body)
        return answer.body

    async def close(self) -> None:
        """Close all connections."""
        await super().close()
        await self.slow.close()


def is_interrupted(body: Any) -> bool:
    """Return whether an answer says that a call was done in part, or perhaps. `body`: its JSON; None: it has none."""
    return body is not None and body.get("code") == "INTERRUPTED"


def _socket_with_small_buffer(address: AddrInfoType) -> socket.socket:
    """Return a socket whose peer must wait for a slow reader, as over a real network; loopback buffers megabytes."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
    return sock

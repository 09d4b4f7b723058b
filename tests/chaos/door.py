"""Where the daemon is reached just now, for callers that outlive daemons."""

import asyncio
import socket
from typing import Any

import aiohttp
from aiohttp.connector import AddrInfoType

TOKEN = "chaos"
_ANSWER_S = 60.0
_LITTLE_ROOM_BYTES = 16 << 10
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What a call raises when its daemon dies."""


class Door:
    """Open while a daemon listens."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._url = ""
        self.session = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        self.narrow_session = _session(
            aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_socket_with_little_room)
        )

    def open(self, url: str) -> None:
        self._url = f"{url}/api/v1"
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    async def url(self) -> str:
        """Wait until there is a daemon, and return the URL that all calls begin with."""
        await self._open.wait()
        return self._url

    async def get(self, path: str, accept: str = "application/json") -> Any:
        """Call the daemon that is there, and return its JSON, or the bytes where something else was asked for."""
        url, timeout = await self.url() + path, aiohttp.ClientTimeout(total=_ANSWER_S)
        async with self.session.get(url, headers={"Accept": accept}, timeout=timeout) as response:
            raw = await response.read()
            assert response.status == 200, (path, response.status, raw[:500])
            return await response.json() if accept == "application/json" else raw

    async def close(self) -> None:
        await self.session.close()
        await self.narrow_session.close()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
    )


def _socket_with_little_room(address: AddrInfoType) -> socket.socket:
    """Make a socket whose peer must wait for a slow reader, as over a real network; loopback holds megabytes."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE_ROOM_BYTES)
    return sock

"""Where the daemon is reached just now, for callers that outlive daemons."""

import asyncio
from typing import Any

import aiohttp

TOKEN = "chaos"
_ANSWER_S = 60.0
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What a call raises when its daemon dies."""


class Door:
    """Open while a daemon listens."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._url = ""
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
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

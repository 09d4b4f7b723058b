"""Calls that outlive daemons, and the connections that they leave behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from harness.http_client import Event, read_events
from tests.support.daemon import Daemon

_PATIENCE_S = 120.0
_BETWEEN_TRIES_S = 0.05
_UNAVAILABLE = 503
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What a call raises when its daemon goes."""


class Wrong(Exception):
    """Something is not as it must be."""


class Door:
    """The way to the daemon. Calls wait while there is none, and are made again when it went away under them."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._is_open = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """A daemon listens."""
        self._is_open.set()

    def shut(self) -> None:
        """None does any more, or not for long."""
        self._is_open.clear()

    async def hang_up(self) -> None:
        """Close all connections, those kept alive for the next call among them."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def session(self) -> aiohttp.ClientSession:
        """Wait for a daemon, and return a client for it."""
        await self._is_open.wait()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"Bearer {self._daemon.token}"},
                timeout=aiohttp.ClientTimeout(total=60),
            )
        return self._session

    @property
    def token(self) -> str:
        """What callers show."""
        return self._daemon.token

    @property
    def port(self) -> int:
        """Where the daemon listens."""
        return int(self._daemon.url.rpartition(":")[2])

    def url(self, path: str) -> str:
        """Return the address of a call."""
        return f"{self._daemon.url}/api/v1{path}"

    async def call(
        self, method: str, path: str, *good: int, body: Any = None, data: bytes | None = None, accept: str = "*/*"
    ) -> tuple[int, bytes]:
        """Make a call that may be made twice, until it is answered by one of the `good` statuses.

        Raises:
            Wrong: another status (503 is waited for), or none within two minutes.
        """
        headers = {"Accept": accept}
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        what = ""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        session = await self.session()
                        async with session.request(method, self.url(path), data=data, headers=headers) as response:
                            raw, status = await response.read(), response.status
                    except (*BROKEN, RuntimeError) as exc:  # the last: the session was closed before it was used
                        what = repr(exc)
                    else:
                        if status in good:
                            return status, raw
                        what = f"{status} {raw[:300]!r}"
                        if status != _UNAVAILABLE:
                            raise Wrong(f"{method} {path}: {what}")
                    await asyncio.sleep(_BETWEEN_TRIES_S)
        except TimeoutError:
            raise Wrong(f"{method} {path}: not answered in {_PATIENCE_S:.0f} s; last: {what}") from None

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        _, raw = await self.call("GET", path, 200)
        return json.loads(raw)

    async def raw(self, path: str) -> bytes:
        """Return the exact bytes of an output."""
        _, raw = await self.call("GET", path, 200, accept="application/octet-stream")
        return raw

    async def events(self, process_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Follow a process to its `eof`, over as many connections as it takes.

        Raises:
            Wrong: the numbers have a hole or a repeat, or nothing came for a minute.
        """
        while True:
            try:
                session = await self.session()
                url = self.url(f"/processes/{process_id}/output/follow?after={after}")
                timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
                async with session.get(url, timeout=timeout) as response:
                    if response.status != 200:
                        raise Wrong(f"following {process_id}: {response.status} {await response.read()!r}")
                    async for event in read_events(response.content):
                        if event.id is not None:
                            if event.kind != "output" or event.id != after + 1:
                                raise Wrong(f"following {process_id}: {event.kind} {event.id} came after {after}")
                            after = event.id
                        yield event
                        if event.kind == "eof":
                            return
            except (*BROKEN, RuntimeError):
                pass
            await asyncio.sleep(_BETWEEN_TRIES_S)

"""Calls that outlive daemons, and the connections that they leave open."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from harness.http_client import BROKEN, HttpClient
from outlast.client import Gap, Line, OutlastError
from tests.support.daemon import Daemon
from tests.support.library import client_over

_PATIENCE_S = 120.0
_BETWEEN_TRIES_S = 0.05
_UNAVAILABLE = 503
_INTERRUPTED = b'"INTERRUPTED"'
DISCONNECTED = (*BROKEN, RuntimeError)
"""Errors of a call whose daemon ended, or whose connections were closed (RuntimeError: before it used one)."""


class UnexpectedResult(Exception):
    """An answer, a process or an output that is not what it should be."""


class DaemonClient:
    """A client of a daemon that is restarted. Calls wait while none listens, and are repeated when it ends."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listening = asyncio.Event()
        self._client: HttpClient | None = None
        self._library = client_over(self.connected)

    def daemon_listens(self) -> None:
        """Let calls go on."""
        self._listening.set()

    def daemon_ends(self) -> None:
        """Let further calls wait for the next daemon."""
        self._listening.clear()

    async def disconnect(self) -> None:
        """Close all connections, those kept alive for the next call among them."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def connected(self) -> HttpClient:
        """Wait for a daemon, and return a client for it."""
        await self._listening.wait()
        if self._client is None:
            self._client = HttpClient(self._daemon.url, self._daemon.token)
        return self._client

    @property
    def token(self) -> str:
        """API token of the daemon."""
        return self._daemon.token

    @property
    def port(self) -> int:
        """TCP port of the daemon."""
        return int(self._daemon.url.rpartition(":")[2])

    async def call(
        self, method: str, path: str, *statuses: int, body: Any = None, data: bytes | None = None, accept: str = "*/*"
    ) -> tuple[int, bytes]:
        """Make a call that may be made twice, until its status is one of `statuses`.

        Raises:
            UnexpectedResult: another status (503 and INTERRUPTED are waited for), or no answer within two minutes.
        """
        headers = {"Accept": accept}
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        problem = ""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        client = await self.connected()
                        answer = await client.request(method, path, data=data, headers=headers)
                    except DISCONNECTED as exc:
                        problem = repr(exc)
                    else:
                        if answer.status in statuses:
                            return answer.status, answer.body
                        problem = f"{answer.status} {answer.body[:300]!r}"
                        if answer.status != _UNAVAILABLE and _INTERRUPTED not in answer.body:
                            raise UnexpectedResult(f"{method} {path}: {problem}")
                    await asyncio.sleep(_BETWEEN_TRIES_S)
        except TimeoutError:
            raise UnexpectedResult(f"{method} {path}: not answered in {_PATIENCE_S:.0f} s; last: {problem}") from None

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        _, raw = await self.call("GET", path, 200)
        return json.loads(raw)

    async def raw(self, path: str) -> bytes:
        """Return the exact bytes of an output."""
        _, raw = await self.call("GET", path, 200, accept="application/octet-stream")
        return raw

    async def lines(self, process_id: str) -> AsyncGenerator[Line, None]:
        """Follow a process from its first line to its end, over as many connections as that takes.

        Raises:
            UnexpectedResult: the numbers have a hole or a repeat, or the stream was refused.
        """
        after = 0
        try:
            process = await self._library.process(process_id)
            async with contextlib.aclosing(process.follow()) as items:
                async for item in items:
                    if isinstance(item, Gap) or item.seq != after + 1:
                        raise UnexpectedResult(f"following {process_id}: {item} came after {after}")
                    after = item.seq
                    yield item
        except OutlastError as exc:
            raise UnexpectedResult(f"following {process_id}: {exc}") from exc

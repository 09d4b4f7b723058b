"""The HTTP API on listening sockets."""

import asyncio
import socket
from collections.abc import Iterable
from typing import cast

from aiohttp import web

from outlast.api import app_keys
from outlast.api.acceptor import Acceptor
from outlast.api.connection import Connection
from outlast.api.gate import Gatekeeper

HANDLER_TIMEOUT_S = 5.0
"""Time that handlers have to end when the server is closed."""
KEEP_ALIVE_S = 120.0
"""Time after which a connection without a request is closed: longer than proxies keep theirs."""


class HttpServer:
    """A server of an application. Only connections that have shown the token reach aiohttp."""

    def __init__(self, app: web.Application, handler_timeout_s: float = HANDLER_TIMEOUT_S) -> None:
        """`handler_timeout_s`: time that handlers have to end in `close`."""
        self._runner = web.AppRunner(
            app, handler_cancellation=True, handle_signals=False, shutdown_timeout=handler_timeout_s
        )
        self._gatekeeper = Gatekeeper(app[app_keys.GUARD], self._serve)
        self._acceptors: list[Acceptor] = []

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Serve on listening sockets, which belong to the server from now on."""
        await self._runner.setup()
        self._acceptors = [Acceptor(sock, self._gatekeeper.make_gate, self._gatekeeper.make_room) for sock in sockets]

    @property
    def connections(self) -> int:
        """Number of connections that have shown the token."""
        return 0 if self._runner.server is None else len(self._runner.server.connections)

    async def close(self) -> None:
        """Stop accepting, and wait for the handlers. A second call does nothing."""
        while self._acceptors:
            self._acceptors.pop().close()
        self._gatekeeper.close()
        await self._runner.cleanup()

    def _serve(self) -> asyncio.Protocol:
        return Connection(
            cast("web.Server", self._runner.server),
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            auto_decompress=False,  # `parsing` refuses compressed bodies
        )

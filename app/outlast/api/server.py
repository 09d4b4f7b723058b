"""The HTTP API on listening sockets."""

import asyncio
import gc
import logging
import socket
from collections.abc import Iterable
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from outlast.api import app_keys
from outlast.api.gate import Gatekeeper

HANDLER_TIMEOUT_S = 5.0
"""Time that handlers have to end when the server is closed."""
KEEP_ALIVE_S = 120.0
"""Time after which a connection without a request is closed: longer than proxies keep theirs."""


class HttpServer:
    """A server of an application. Only connections that have shown the token reach aiohttp."""

    def __init__(self, app: web.Application, handler_timeout_s: float = HANDLER_TIMEOUT_S) -> None:
        """`handler_timeout_s`: time that handlers have to end in `close`."""
        logging.getLogger("aiohttp.server").addFilter(_is_not_malformed_request)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            handle_signals=False,
            shutdown_timeout=handler_timeout_s,
            keepalive_timeout=KEEP_ALIVE_S,
            auto_decompress=False,  # `parsing` refuses compressed bodies
        )
        self._gatekeeper = Gatekeeper(app[app_keys.GUARD], self._serve)
        self._servers: list[asyncio.Server] = []

    async def listen(self, sockets: Iterable[socket.socket], backlog: int) -> None:
        """Serve on bound sockets, which belong to the server from now on."""
        await self._runner.setup()
        # Objects that exist now are never freed: the garbage collector does not have to visit them.
        gc.collect()
        gc.freeze()
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(await loop.create_server(self._gatekeeper.make_gate, sock=sock, backlog=backlog))

    @property
    def connections(self) -> int:
        """Number of connections that have shown the token."""
        return 0 if self._runner.server is None else len(self._runner.server.connections)

    async def close(self) -> None:
        """Stop listening, and wait for the handlers."""
        for server in self._servers:
            server.close()
        self._gatekeeper.close()
        await self._runner.cleanup()

    def _serve(self) -> asyncio.Protocol:
        return cast("web.Server", self._runner.server)()


def _is_not_malformed_request(record: logging.LogRecord) -> bool:
    """Return False for the log record of a malformed request, which may contain the token."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)

"""A server of the API on a stub manager, and a client for it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from harness.http_client import Answer, HttpClient
from outlast.api.application import make_app
from outlast.api.server import HttpServer
from outlast.core.manager import ProcessManager
from outlast.core.projects.projects import Projects

from .stub import StubManager

TOKEN = "the token of the tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DEADLINE_S = 10.0
SHUTDOWN_S = 0.5


@dataclass
class Server:
    client: HttpClient
    port: int
    http: HttpServer
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def bearer(self) -> dict[str, str]:
        """The headers of a request with the token."""
        return dict(BEARER)

    @property
    def connections(self) -> int:
        """How many clients are connected, those of `client` included."""
        return self.http.connections

    async def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **kwargs: Any) -> Answer:
        """Make a request with the token, unless `headers` say otherwise, and read the whole answer."""
        return await self.client.request(method, path, headers=BEARER if headers is None else headers, **kwargs)

    async def connect(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection of its own and send `request` as it is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(request)
        await writer.drain()
        return reader, writer

    async def close(self) -> None:
        """Close the connections that `connect` opened."""
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    manager: StubManager, metrics_tags: Sequence[str] = (), *, has_files: bool = True
) -> AsyncIterator[Server]:
    """Serve a stub manager on a port of its own, in the way of the daemon."""
    app = make_app(
        cast("ProcessManager", manager),
        cast("Projects", manager),
        token=TOKEN,
        version="1.2.3",
        allowed_hosts=["outlast.example"],
        metrics_tags=metrics_tags,
        has_files=has_files,
    )
    http = HttpServer(app, SHUTDOWN_S)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await http.listen([sock])
    async with HttpClient(f"http://127.0.0.1:{port}", root="", auto_decompress=False) as client:
        server = Server(client, port, http)
        try:
            yield server
        finally:
            await server.close()
            await http.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.005)

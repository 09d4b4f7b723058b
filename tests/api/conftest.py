from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from app.api.application import make_app
from app.core.manager import ProcessManager

from .server import TOKEN, Server
from .stub import StubManager


@pytest.fixture
def manager() -> StubManager:
    return StubManager()


@pytest.fixture
async def server(manager: StubManager) -> AsyncIterator[Server]:
    """The application on a port of its own, run as the daemon runs it, before a stub manager."""
    app = make_app(cast("ProcessManager", manager), token=TOKEN, version="1.2.3", allowed_hosts=["outlast.example"])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False) as session:
        it = Server(session, port, runner)
        yield it
        await it.close()
    await runner.cleanup()

"""A client of each form for a test's daemon."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from outlast import AsyncOutlast
from tests.client_library.threaded import connect
from tests.support.daemon import Daemon

_THREADS = 32  # more than streams that a test reads at a time


@pytest.fixture(params=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> str:
    """The form of the client: `async` or `blocking`."""
    return str(request.param)


@pytest.fixture
async def ol(form: str, daemon: Daemon) -> AsyncIterator[AsyncOutlast]:
    """A client of a daemon that listens."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    async with connect(form, daemon) as client:
        yield client

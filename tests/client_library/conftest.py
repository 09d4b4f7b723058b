"""A client of each form for a test's daemon."""

from collections.abc import AsyncIterator

import pytest

from outlast import AsyncOutlast
from tests.client_library.threaded import connect
from tests.support.daemon import Daemon


@pytest.fixture(params=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> str:
    """The form of the client: `async` or `blocking`."""
    return str(request.param)


@pytest.fixture
async def ol(form: str, daemon: Daemon) -> AsyncIterator[AsyncOutlast]:
    """A client of a daemon that listens."""
    async with connect(form, daemon, give_up_after=None) as client:
        yield client

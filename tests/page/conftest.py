"""Fixtures of the tests of the page."""

from collections.abc import AsyncIterator

import pytest

from tests.page.browser import Visitor, chromium
from tests.support.daemon import Daemon


@pytest.fixture
async def visitor(daemon: Daemon) -> AsyncIterator[Visitor]:
    """A user of the daemon with a browser, in whose pages nothing may have gone wrong at the end."""
    async with chromium() as browser:
        user = Visitor(daemon, browser)
        yield user
        assert user.errors == []

"""Fixtures of the tests of the page."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.page.browser import Visitor, chromium
from tests.support.daemon import Daemon

_SHORT = Path(__file__).with_name("test_short.py")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what the marks say
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a browser, except those of the short form."""
    for item in items:
        if isinstance(item, pytest.Function) and "visitor" in item.fixturenames and item.path != _SHORT:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
async def visitor(daemon: Daemon) -> AsyncIterator[Visitor]:
    """A user of the daemon with a browser, in whose pages nothing may have gone wrong at the end."""
    async with chromium() as browser:
        user = Visitor(daemon, browser)
        yield user
        assert user.errors == []

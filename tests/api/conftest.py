from collections.abc import AsyncIterator

import pytest

from .server import Server, serving
from .stub import StubManager


@pytest.fixture
def manager() -> StubManager:
    return StubManager()


@pytest.fixture
async def server(manager: StubManager) -> AsyncIterator[Server]:
    async with serving(manager) as it:
        yield it

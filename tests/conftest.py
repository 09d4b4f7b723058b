"""Fixtures that every part of the tests uses."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, left_over


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state folder for this test alone; afterwards nothing may run that was started for it."""
    folder = tmp_path / "state"
    yield folder
    assert left_over(folder) == []


@pytest.fixture
async def daemon(state_dir: Path) -> AsyncIterator[Daemon]:
    """A daemon that listens; the end of the test ends everything that it started."""
    running = Daemon(state_dir)
    try:
        await running.start()
        yield running
    finally:
        await running.end_everything()

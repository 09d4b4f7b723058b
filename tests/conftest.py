"""Fixtures that every part of the tests uses."""

import compileall
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import outlast
from outlast.failpoints import VARIABLE
from tests.support import deadlines
from tests.support.daemon import Daemon, left_over

# A shell that starts the tests in the background has them ignore SIGINT, `nohup` has them ignore SIGHUP, and so would
# every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes says how busy the machine is.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the program once. Where PYTHONDONTWRITEBYTECODE is set, each daemon and shim would compile it again."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(outlast.__file__).parent, quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test a deadline, so that one that hangs fails, and the others run."""
    for item in items:
        deadlines.give(item)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run at a time: most of them wait for processes, and five keep two processors busy."""
    return 5


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


@pytest.fixture
async def crashable_daemon(state_dir: Path) -> AsyncIterator[Daemon]:
    """A daemon that is not running yet, and may be told where to die."""
    daemon = Daemon(state_dir)
    yield daemon
    daemon.environment.pop(VARIABLE, None)
    await daemon.end_everything()

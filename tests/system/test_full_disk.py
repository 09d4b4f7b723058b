"""The disk is full under a daemon that floods: nothing is lost, and all goes on by itself when there is room."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.disk import Disk, mounted
from tests.support.health import health, unavailable, wait_until_healthy
from tests.support.load import Load
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", 96) as disk:
        yield disk


@pytest.fixture
async def daemon(disk: Disk) -> AsyncIterator[Daemon]:
    running = Daemon(disk.path / "state")
    try:
        await running.start()
        yield running
    finally:
        disk.ballast.unlink(missing_ok=True)
        await running.end_everything()


async def test_a_full_disk_loses_no_output(daemon: Daemon, disk: Disk) -> None:
    load = Load(daemon)
    await load.start()
    disk.fill()
    assert "full" in await eventually(lambda: health(daemon))
    assert "full" in await unavailable(daemon, "POST", "/processes", {"command": "true"})
    await load.end_stoppable()
    for method, path in (("DELETE", ""), ("DELETE", "?purge=true")):
        await daemon.call(method, f"/processes/{load.stoppable.process['id']}{path}", 202)
    assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 3
    async for event in daemon.follow(load.flood.process):
        assert event == load.flood.events[0]
        break
    disk.give_back(16)  # a little room is soon full again
    await eventually(lambda: health(daemon))
    disk.make_room()
    await wait_until_healthy(daemon)
    assert all(followed.task is not None and not followed.task.done() for followed in (load.flood, load.trickle))
    await daemon.ended(await daemon.run("true"))
    await load.finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_a_restart_on_a_full_disk_loses_no_output(daemon: Daemon, disk: Disk, number: signal.Signals) -> None:
    load = Load(daemon)
    await load.start()
    disk.fill()
    await eventually(lambda: health(daemon))
    await load.end_stoppable()
    assert daemon.process is not None
    daemon.process.send_signal(number)
    await load.interrupted()
    assert await daemon.stop(number) == (0 if number == signal.SIGTERM else -number)
    disk.fill()
    await daemon.start()
    load.follow()
    assert "full" in await eventually(lambda: health(daemon))
    disk.make_room()
    await wait_until_healthy(daemon)
    await load.finish()

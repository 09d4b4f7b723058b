"""The disk is full under a daemon that floods: nothing is lost, and all goes on by itself when there is room."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, is_running, outlast
from tests.support.disk import PAGE_BYTES, Disk, mounted
from tests.support.health import health, unavailable, wait_until_healthy, warnings
from tests.support.load import Load
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk of 96 MiB, or of as many as the test's parameter says."""
    with mounted(tmp_path / "disk", getattr(request, "param", 96)) as disk:
        yield disk


@pytest.fixture
async def daemon(disk: Disk) -> AsyncIterator[Daemon]:
    config = disk.path / "outlast.toml"
    config.write_text("keep_total_bytes = 0\n")  # else the limit of all output keeps the disk from filling up
    running = Daemon(disk.path / "state", OUTLAST_CONFIG=str(config))
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
    await daemon.call("DELETE", f"/processes/{load.stoppable.process['id']}", 204)
    assert "full" in await health(daemon)
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


async def test_health_warns_of_a_disk_that_is_nearly_full(daemon: Daemon, disk: Disk) -> None:
    assert await warnings(daemon) == []
    disk.fill()
    disk.give_back((6 << 20) // PAGE_BYTES)
    (warning,) = await warnings(daemon)
    assert "93 % full" in warning
    disk.make_room()
    assert await warnings(daemon) == []


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


# Output that no compression makes smaller: it fills the disk soon, and each process has pages of its own to give back.
PRINTER = """
import os, sys
block = b"".join(os.urandom(99).replace(b"\\n", b"x") + b"\\n" for _ in range(10_000))
sys.stdin.readline()
while True:
    sys.stdout.buffer.write(block)
"""


def used_bytes(daemon: Daemon) -> int:
    return sum(path.stat().st_size for path in daemon.state_dir.glob("outlast.db*") if path.suffix != ".db-reserve")


@pytest.mark.parametrize("disk", [16, 32, 96], indirect=True)
async def test_a_disk_that_output_has_filled_is_healed_by_calls(daemon: Daemon) -> None:
    """Kills, purges and `shutdown` need no room that output could take."""
    printers = [await daemon.python(PRINTER, stdin_mode="pipe") for _ in range(6)]
    managed = await daemon.run("sleep", "1000", name="web")
    for printer in printers:
        Path(f"/proc/{printer['pid']}/fd/0").write_text("\n")
    await eventually(lambda: health(daemon), deadline_s=60)
    assert "full" in await health(daemon)
    for printer in printers:
        await daemon.call("DELETE", f"/processes/{printer['id']}", 204)
    assert not any(is_running(printer["pid"]) for printer in printers)
    await daemon.call("DELETE", f"/processes/{managed['id']}", 204)
    assert not is_running(managed["pid"])
    full_bytes = used_bytes(daemon)
    rows = "SELECT 1 FROM output_chunk WHERE handle = ? AND length(data) > 0 LIMIT 1"
    for printer in printers:
        await daemon.call("DELETE", f"/processes/{printer['id']}?purge=true", 204)
        # What others have printed, and the shim keeps, may take the room at once.
        await eventually(lambda: not daemon.sql(rows, printer["handle"]), "the purge of its rows")  # noqa: B023
    await wait_until_healthy(daemon)
    await daemon.ended(await daemon.run("true"))
    await eventually(lambda: used_bytes(daemon) < full_bytes // 3)
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, "0 running processes ended; shim and daemon are down\n")
    await daemon.stop(0)


PURGE_BESIDE_OUTPUT = """
import sys
if "serve" in sys.orig_argv:
    import asyncio
    from pathlib import Path
    from outlast.core.output.committer import Committer
    from outlast.storage import Chunk, PurgeProcess

    gather = Committer._gather

    async def gather_both(self):
        await gather(self)
        while any(isinstance(entry.change, Chunk) for entry in self._queue):
            changes = [entry.change for entry in self._queue]
            if sum(len(change.data) for change in changes if isinstance(change, Chunk)) > 1 << 20:
                Path({waits!r}).touch()
                if any(isinstance(change, PurgeProcess) for change in changes):
                    Committer._gather = gather
                    return
            await asyncio.sleep(0.01)

    Committer._gather = gather_both
"""
"""A patch: a mebibyte of output makes a file and waits for a purge, and both are given to the store at once."""


async def test_a_purge_succeeds_although_output_beside_it_finds_no_room(disk: Disk, tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    daemon = patched_daemon(disk.path / "state", PURGE_BESIDE_OUTPUT.format(waits=str(waits)))
    try:
        await daemon.start()
        done = await daemon.ended(await daemon.run("true"))
        printer = await daemon.python(PRINTER.replace("while True:", "for _ in range(2):"), stdin_mode="pipe")
        disk.fill()
        Path(f"/proc/{printer['pid']}/fd/0").write_text("\n")
        await eventually(waits.exists)
        await daemon.call("DELETE", f"/processes/{done['id']}?purge=true", 204)
        assert "full" in await eventually(lambda: health(daemon))
    finally:
        disk.ballast.unlink(missing_ok=True)
        await daemon.end_everything()


RANDOM_LINES = 200_000
RANDOM_PRINTER = f"""
import os, sys
sys.stdin.readline()
for first in range(0, {RANDOM_LINES}, 10_000):
    sys.stdout.writelines(f"{{number:07}} {{os.urandom(40).hex()}}\\n" for number in range(first, first + 10_000))
    sys.stdout.flush()
sys.exit(1)
"""


async def test_no_next_run_begins_before_all_output_is_stored(daemon: Daemon, disk: Disk) -> None:
    """The end of a run finds room, and its output does not, of which the shim still has the most."""
    process = await daemon.python(RANDOM_PRINTER, stdin_mode="pipe", restart={"policy": "on_failure"})
    disk.fill()
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await eventually(lambda: "is not stored yet: try again" in daemon.log, deadline_s=60)
    disk.make_room()

    async def runs_again() -> bool:
        now = await daemon.get(process)
        return bool(now["run"] == 2 and now["status"] == "running")

    await eventually(runs_again, deadline_s=60)
    lines = (await daemon.raw(process)).splitlines()
    assert [int(line[:7]) for line in lines] == list(range(RANDOM_LINES))

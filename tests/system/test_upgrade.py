"""`outlast shim upgrade`: the shim becomes its next version in place."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import Answer
from outlast.wire import codec, contract
from tests.support.daemon import Daemon, is_running, outlast, shim_pid
from tests.support.health import is_healthy, wait_until_healthy
from tests.support.programs import COUNTER
from tests.support.waiting import eventually
from tests.system.test_shim_death import FLOOD


def shadow(folder: Path, change: str) -> str:
    """Make what an installation of another version is: a PYTHONPATH that changes a constant."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(change)
    return str(folder)


async def upgrade_shim(daemon: Daemon, **environment: str) -> tuple[int, str]:
    return await outlast("shim", "upgrade", "--state-dir", str(daemon.state_dir), **environment)


async def test_an_upgrade_disturbs_no_process(daemon: Daemon) -> None:
    counter = await daemon.python(COUNTER)
    echo = await daemon.run("cat", stdin_mode="pipe")
    flood = await daemon.python(FLOOD)
    before = shim_pid(daemon.state_dir)
    for round_number in range(3):
        await daemon.wait_for_lines(counter, 50 * (round_number + 1))
        code, output = await upgrade_shim(daemon)
        assert (code, output) == (0, f"the shim (pid {before}) is upgraded; processes and their output were kept\n")
        await wait_until_healthy(daemon)
        await daemon.call("POST", f"/processes/{echo['id']}/stdin", 204, data=b"%d\n" % round_number)
    assert shim_pid(daemon.state_dir) == before
    info = await daemon.call("GET", "/info", 200)
    assert info["shim_version"] == info["version"]
    assert f"the shim (pid {before}, version {info['version']}) is connected again" in daemon.log
    assert "WARNING" not in daemon.log
    await daemon.call("POST", f"/processes/{echo['id']}/stdin/close", 204)
    assert (await daemon.ended(echo))["exit_code"] == 0
    assert await daemon.raw(echo) == b"0\n1\n2\n"
    assert (await daemon.ended(flood))["exit_code"] == 0
    assert await daemon.raw(flood) == b"".join(b"%09d %s\n" % (i, b"x" * 85) for i in range(200_000))
    await daemon.call("POST", f"/processes/{counter['id']}/signal", 200, {"signal": "SIGTERM"})
    assert (await daemon.ended(counter))["signal"] == signal.SIGTERM
    lines = await daemon.lines(counter)
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


async def test_an_upgrade_without_a_daemon_loses_nothing(daemon: Daemon) -> None:
    waiting = await daemon.sh("read x; head -c 20000000 /dev/zero; exit 9", stdin_mode="pipe")
    ended = await daemon.sh("read x; echo bye; exit 3", stdin_mode="pipe")
    await daemon.kill()
    for process in (waiting, ended):
        Path(f"/proc/{process['pid']}/fd/0").write_text("\n")
    await eventually(lambda: not is_running(ended["pid"]) and not is_running(waiting["pid"]))
    assert list((daemon.state_dir / "spool").iterdir())
    assert (await upgrade_shim(daemon))[0] == 0
    await daemon.start()
    assert (await daemon.ended(waiting))["exit_code"] == 9
    assert await daemon.raw(waiting) == bytes(20_000_000)
    assert (await daemon.ended(ended))["exit_code"] == 3
    assert await daemon.raw(ended) == b"bye\n"
    await eventually(lambda: not list((daemon.state_dir / "spool").iterdir()))


async def test_an_upgrade_fails_no_request(daemon: Daemon) -> None:
    async def start(i: int) -> int:
        process = await daemon.sh(f"echo {i}; exit {i}")
        return int((await daemon.ended(process))["exit_code"])

    async def start_and_kill() -> int:
        process = await daemon.sh("setsid sleep 1000 & sleep 1000")
        await daemon.call("DELETE", f"/processes/{process['id']}", 204)
        return int((await daemon.ended(process))["signal"])

    async def again_if_away(job: object, *args: int) -> int:
        while True:  # while the daemon connects again, it answers 503
            try:
                return await job(*args)  # type: ignore[operator,no-any-return]
            except AssertionError as exc:
                if "503" not in str(exc):
                    raise
                await asyncio.sleep(0.01)

    jobs = [again_if_away(start, i) for i in range(20)] + [again_if_away(start_and_kill) for _ in range(10)]
    running = asyncio.gather(*jobs)
    assert (await upgrade_shim(daemon))[0] == 0
    assert (await upgrade_shim(daemon))[0] == 0
    assert await running == [*range(20), *[signal.SIGKILL] * 10]


# Once a file is there, the shim stops itself when it has handled all that its daemon has sent, just before it hangs up.
STOPS_AT_CLOSE = """
import os, pathlib, signal
FILE = pathlib.Path({path!r})
from outlast.shim.connection.connection import Connection
close = Connection.close

def stop_and_close(self):
    if FILE.exists():
        FILE.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    close(self)

Connection.close = stop_and_close
"""


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_no_call_is_in_doubt_that_comes_as_the_shim_hangs_up(state_dir: Path, tmp_path: Path) -> None:
    """The new shim does what may be done twice; all else is answered with 503, which is true."""
    stops = tmp_path / "stops"
    daemon = Daemon(state_dir, PYTHONPATH=shadow(tmp_path / "patch", STOPS_AT_CLOSE.format(path=str(stops))))
    try:
        await daemon.start()
        untouched, killed, purged, closed = [await daemon.run("cat", stdin_mode="pipe") for _ in range(4)]
        shim = shim_pid(daemon.state_dir)
        assert shim is not None
        stops.touch()
        upgrade = asyncio.create_task(upgrade_shim(daemon))
        await eventually(lambda: is_stopped(shim))

        def begin(method: str, process: dict[str, Any], path: str, **body: Any) -> asyncio.Task[Answer]:
            return asyncio.create_task(daemon.client.request(method, f"/processes/{process['id']}{path}", **body))

        calls = [
            begin("POST", untouched, "/signal", json={"signal": "SIGUSR1"}),
            begin("POST", untouched, "/stdin", data=b"input"),
            begin("DELETE", killed, ""),
            begin("DELETE", purged, "?purge=true"),
            begin("POST", closed, "/stdin/close"),
        ]
        await asyncio.sleep(0)
        await daemon.get(untouched)  # they come before this
        os.kill(shim, signal.SIGCONT)
        assert (await upgrade)[0] == 0
        assert [(await call).status for call in calls] == [503, 503, 204, 204, 204]
        await daemon.call("POST", f"/processes/{untouched['id']}/stdin/close", 204)
        for process in (untouched, closed):
            assert (await daemon.ended(process))["exit_code"] == 0
            assert await daemon.raw(process) == b""
        assert (await daemon.ended(killed))["signal"] == signal.SIGKILL
    finally:
        await daemon.end_everything()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            f"import outlast.wire.contract\noutlast.wire.contract.STATE_VERSION = {contract.STATE_VERSION + 1}\n",
            "state in version",
        ),
        (
            f"import outlast.wire.codec\noutlast.wire.codec.PROTOCOL_VERSION = {codec.PROTOCOL_VERSION + 1}\n",
            "the daemon speaks",
        ),
        ("import sys\nsys.executable = '/no/such/python'\n", "cannot be run"),
    ],
    ids=["state", "protocol", "program"],
)
async def test_an_unsuitable_upgrade_is_refused_without_a_change(
    daemon: Daemon, tmp_path: Path, change: str, why: str
) -> None:
    process = await daemon.python(COUNTER)
    shim = shim_pid(daemon.state_dir)
    code, output = await upgrade_shim(daemon, PYTHONPATH=shadow(tmp_path / "shadow", change))
    assert code == 1
    assert why in output
    assert "nothing was touched" in output
    assert await is_healthy(daemon)
    assert shim_pid(daemon.state_dir) == shim
    before = (await daemon.get(process))["output"]["lines"]
    await daemon.wait_for_lines(process, before + 10)
    assert "was lost" not in daemon.log


async def test_an_upgrade_without_a_shim_is_an_error(state_dir: Path) -> None:
    state_dir.mkdir()
    code, output = await outlast("shim", "upgrade", "--state-dir", str(state_dir))
    assert code == 1
    assert f"no shim runs for {state_dir}" in output


async def test_a_process_survives_the_death_of_an_upgraded_shim(daemon: Daemon) -> None:
    process = await daemon.python(COUNTER)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    assert (await upgrade_shim(daemon))[0] == 0
    await wait_until_healthy(daemon)
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    await wait_until_healthy(daemon)
    before = (await daemon.get(process))["output"]["lines"]
    await daemon.wait_for_lines(process, before + 50)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    lines = await daemon.lines(process)
    assert lines == [str(i) for i in range(1, len(lines) + 1)]

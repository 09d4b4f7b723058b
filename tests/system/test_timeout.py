"""A process whose time is over is killed with all that it started, whoever is there to see it."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from outlast.shimlink.upgrade import upgrade_shim
from tests.support.daemon import Daemon, is_running, shim_pid, wait_for_another_shim
from tests.support.waiting import eventually

# Leaves a grandchild in a session of its own, and says who it is.
TREE = "setsid sh -c 'echo $$; exec sleep 1000' & wait"
TIMED_OUT = ("signaled", "timed_out", None, signal.SIGKILL)


def how(process: dict[str, Any]) -> tuple[Any, ...]:
    return process["status"], process["reason"], process["exit_code"], process["signal"]


async def test_the_whole_tree_is_killed(daemon: Daemon) -> None:
    quick = await daemon.sh("exit 3", timeout=300)
    killed = await daemon.run("sleep", "1000", timeout=300)
    timed = await daemon.sh(TREE, timeout=0.5)
    forever = await daemon.run("sleep", "1000")
    assert how(await daemon.ended(timed)) == TIMED_OUT
    (grandchild,) = await daemon.lines(timed)
    await eventually(lambda: not is_running(int(grandchild)))
    await daemon.call("DELETE", f"/processes/{killed['id']}", 204)
    assert how(await daemon.ended(killed)) == ("signaled", "signaled", None, signal.SIGKILL)
    assert how(await daemon.ended(quick)) == ("exited", "exited", 3, None)
    assert (await daemon.get(forever))["status"] == "running"
    assert daemon.sql("SELECT reason, options FROM processes WHERE id = ?", timed["id"]) == [
        ("timed_out", '{"timeout_ms": 500}')
    ]


async def test_time_runs_while_no_daemon_is_there(daemon: Daemon) -> None:
    timed = await daemon.run("sleep", "1000", timeout=1)
    await daemon.kill()
    await eventually(lambda: not is_running(timed["pid"]))
    await daemon.start()
    ended = await daemon.ended(timed)
    assert how(ended) == TIMED_OUT
    assert ended["ended_at"] - ended["started_at"] >= 990


async def test_time_runs_on_when_the_shim_is_killed(daemon: Daemon) -> None:
    timed = await daemon.run("sleep", "1000", timeout=2)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    ended = await daemon.ended(timed)
    assert how(ended) == TIMED_OUT
    assert ended["ended_at"] - ended["started_at"] < 60_000
    await wait_for_another_shim(daemon, shim)


async def test_time_runs_on_when_the_shim_is_upgraded(daemon: Daemon, state_dir: Path) -> None:
    timed = await daemon.run("sleep", "1000", timeout=2)
    await asyncio.to_thread(upgrade_shim, state_dir)
    assert how(await daemon.ended(timed)) == TIMED_OUT


async def test_what_is_no_time_is_refused(daemon: Daemon) -> None:
    refused: tuple[Any, ...] = (0, -1, 0.0001, True, "5", 10**10, [], float("1e300"))
    for timeout in refused:
        answer = await daemon.call("POST", "/processes", 400, {"command": "true", "timeout": timeout})
        assert answer["error"].startswith("timeout must be a number of seconds from 0.001 to "), answer

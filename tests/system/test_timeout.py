"""A process whose time is over is killed with all that it started, with or without a daemon."""

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


async def test_a_timeout_kills_the_whole_tree(daemon: Daemon) -> None:
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


async def test_a_timeout_ends_a_process_without_a_daemon(daemon: Daemon) -> None:
    timed = await daemon.run("sleep", "1000", timeout=1)
    await daemon.kill()
    await eventually(lambda: not is_running(timed["pid"]))
    await daemon.start()
    ended = await daemon.ended(timed)
    assert how(ended) == TIMED_OUT
    assert ended["ended_at"] - ended["started_at"] >= 990


async def test_a_timeout_survives_a_shim_death(daemon: Daemon) -> None:
    timed = await daemon.run("sleep", "1000", timeout=2)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    ended = await daemon.ended(timed)
    assert how(ended) == TIMED_OUT
    assert ended["ended_at"] - ended["started_at"] < 60_000
    await wait_for_another_shim(daemon, shim)


async def test_a_timeout_survives_an_upgrade(daemon: Daemon, state_dir: Path) -> None:
    timed = await daemon.run("sleep", "1000", timeout=2)
    await asyncio.to_thread(upgrade_shim, state_dir)
    assert how(await daemon.ended(timed)) == TIMED_OUT


async def test_malformed_timeouts_are_refused(daemon: Daemon) -> None:
    refused: tuple[Any, ...] = (0, -1, 0.0001, True, "5", 10**10, [], float("1e300"))
    for timeout in refused:
        answer = await daemon.call("POST", "/processes", 400, {"command": "true", "timeout": timeout})
        assert answer["error"].startswith("timeout must be a number of seconds from 0.001 to "), answer

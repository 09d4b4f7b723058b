"""DELETE with a grace period: the stop signal, and SIGKILL by the shim, whatever becomes of daemon and client."""

import signal
import time
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, outlast, shim_pid, wait_until_gone

POLITE = "trap 'sleep 0.5; echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


async def ready(daemon: Daemon, script: str, **fields: Any) -> dict[str, Any]:
    process = await daemon.sh(script, **fields)
    await daemon.wait_for_lines(process, 1)
    return process


async def test_a_process_may_end_in_its_own_way(daemon: Daemon) -> None:
    process = await ready(daemon, POLITE)
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=60000", 204)
    seen = await daemon.get(process)
    assert (seen["exit_code"], seen["reason"]) == (3, "exited")
    assert (await daemon.lines(process))[-1] == "bye"


async def test_its_own_stop_signal_is_sent(daemon: Daemon) -> None:
    process = await ready(daemon, POLITE.replace("TERM", "INT"), stop_signal="SIGINT")
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=60000", 204)
    assert (await daemon.get(process))["exit_code"] == 3


@pytest.mark.parametrize("managed", [False, True])
async def test_a_process_that_stays_is_killed(daemon: Daemon, *, managed: bool) -> None:
    process = await ready(daemon, STUBBORN, **({"name": "web"} if managed else {}))
    began = time.monotonic()
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=300", 204)
    assert time.monotonic() - began >= 0.3
    seen = await daemon.get(process)
    assert (seen["signal"], seen["reason"]) == (signal.SIGKILL, "signaled")


async def test_the_whole_tree_is_gone(daemon: Daemon) -> None:
    script = "trap '' TERM; setsid sleep 1000 & echo $!; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    process = await ready(daemon, script)
    (child,) = map(int, await daemon.lines(process))
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=60000", 204)
    assert (await daemon.get(process))["exit_code"] == 0
    assert not is_running(child)


async def test_a_call_that_does_not_wait_is_finished_by_the_shim(daemon: Daemon) -> None:
    process = await ready(daemon, STUBBORN)
    answer = await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=300&wait=0&purge=true", 202)
    assert answer["status"] == "running"
    assert "is killed when its grace period is over" in answer["warnings"][0]
    assert (await daemon.ended(process))["signal"] == signal.SIGKILL  # not purged


@pytest.mark.parametrize("script", [POLITE, STUBBORN], ids=["polite", "stubborn"])
async def test_the_shim_finishes_a_stop_whose_daemon_is_killed(daemon: Daemon, script: str) -> None:
    process = await ready(daemon, f"trap '' TERM; setsid sleep 1000 & echo $!; {script}")
    await daemon.wait_for_lines(process, 2)
    orphan = int((await daemon.lines(process))[0])
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=2000&wait=0", 202)
    await daemon.kill()
    await wait_until_gone(process["pid"])
    await wait_until_gone(orphan)
    await daemon.start()
    seen = await daemon.ended(process)
    assert (seen["exit_code"], seen["signal"]) == ((3, None) if script == POLITE else (None, signal.SIGKILL))


async def test_a_second_stop_may_come_sooner(daemon: Daemon) -> None:
    process = await ready(daemon, STUBBORN)
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=3600000&wait=0", 202)
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=100&wait=0", 202)
    assert (await daemon.ended(process))["signal"] == signal.SIGKILL


async def test_a_stop_outlives_an_upgrade_of_the_shim(daemon: Daemon) -> None:
    process = await ready(daemon, STUBBORN)
    await daemon.call("DELETE", f"/processes/{process['id']}?grace_ms=3000&wait=0", 202)
    await daemon.kill()
    before = shim_pid(daemon.state_dir)
    code, said = await outlast("shim", "upgrade", "--state-dir", str(daemon.state_dir))
    assert (code, shim_pid(daemon.state_dir)) == (0, before), said
    await wait_until_gone(process["pid"])
    await daemon.start()
    assert (await daemon.ended(process))["signal"] == signal.SIGKILL

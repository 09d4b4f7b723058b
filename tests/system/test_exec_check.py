"""Health checks by a command that runs beside its process."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, shim_pid, wait_until_gone
from tests.support.waiting import eventually
from tests.system.test_managed import QUICK, told, until

FOR_EVER = 86_400_000


def check(script: str, **fields: Any) -> dict[str, Any]:
    times = {"initial_delay_ms": 0, "interval_ms": 20, "timeout_ms": 20_000, "failure_threshold": 2}
    return {"type": "exec", "command": "sh", "args": ["-c", script], **times, **fields}


async def pid_in(path: Path) -> int:
    async def look() -> int | None:
        return int(path.read_text()) if path.exists() and path.read_text().endswith("\n") else None

    return await eventually(look)


async def test_a_command_decides_about_the_health(daemon: Daemon, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.touch()
    process = await daemon.sh(
        "exec sleep 600", health_check=check(f"test -e {good} || {{ echo it is; echo gone >&2; exit 3; }}")
    )
    await until(daemon, process, health_status="healthy", last_error=None)
    good.unlink()
    seen = await until(daemon, process, health_status="unhealthy")
    assert seen["managed"]["last_error"] in {
        f"unhealthy: 'sh' exited with 3: {said}" for said in ("it is gone", "gone it is")
    }


async def test_the_command_runs_as_the_process_does(daemon: Daemon) -> None:
    """As its user, in its folder and in its environment."""
    look = 'pwd; echo "$SECRET $OUTLAST_PROCESS_ID"; id -un'
    fields = {"working_dir": "/usr", "env": {"SECRET": "s3cret"}, "user": "nobody" if os.geteuid() == 0 else None}
    failing = check(f"{look}; exit 1", failure_threshold=1)
    process = await daemon.sh(f"{look}; exec sleep 600", health_check=failing, restart={"policy": "never"}, **fields)
    seen = await until(daemon, process, health_status="unhealthy")
    assert seen["managed"]["last_error"] == f"unhealthy: 'sh' exited with 1: {' '.join(await daemon.lines(process))}"


async def test_a_command_that_takes_too_long_is_killed_with_its_tree(daemon: Daemon, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' & wait"
    slow = check(script, timeout_ms=300, interval_ms=FOR_EVER)
    process = await daemon.sh("exec sleep 600", health_check=slow)
    child = await pid_in(pid_file)
    await until(daemon, process, consecutive_health_failures=1)
    await eventually(lambda: not is_running(child))
    assert is_running(process["pid"])


async def test_what_a_good_command_leaves_behind_is_killed(daemon: Daemon, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' & while ! [ -s {pid_file} ]; do sleep 0.01; done"
    process = await daemon.sh("exec sleep 600", health_check=check(script, interval_ms=FOR_EVER))
    child = await pid_in(pid_file)
    await until(daemon, process, health_status="healthy")
    await eventually(lambda: not is_running(child))
    assert is_running(process["pid"])


async def test_a_command_may_print_for_ever(daemon: Daemon) -> None:
    """All of it is read, so that nothing fills up, and a little is shown."""
    chatty = check("head -c 300000000 /dev/zero | tr '\\0' y; echo the end; exit 1", interval_ms=FOR_EVER)
    process = await daemon.sh("exec sleep 600", health_check={**chatty, "failure_threshold": 1})
    seen = await until(daemon, process, health_status="unhealthy")
    assert seen["managed"]["last_error"].startswith("unhealthy: 'sh' exited with 1: yyy")
    assert seen["managed"]["last_error"].endswith("ythe end")
    assert len(seen["managed"]["last_error"]) < 300
    assert seen["output"]["bytes"] == 0


async def test_a_command_that_cannot_be_executed_is_a_failure(daemon: Daemon) -> None:
    process = await daemon.sh("exec sleep 600", health_check=check("", command="/nowhere/at-all"))
    seen = await until(daemon, process, health_status="unhealthy")
    assert seen["managed"]["last_error"].endswith("'/nowhere/at-all' cannot be executed: No such file or directory")


async def long_check(daemon: Daemon, tmp_path: Path) -> tuple[dict[str, Any], int]:
    """Start a process whose first check lasts for ever, and whose later ones succeed. Return the check's pid, too."""
    pid_file = tmp_path / "pid"
    script = f"[ -s {pid_file} ] || {{ echo $$ > {pid_file}; exec sleep 600; }}"
    patient = check(script, timeout_ms=FOR_EVER, failure_threshold=1)
    process = await daemon.sh("exec sleep 600", health_check=patient, restart=QUICK)
    return process, await pid_in(pid_file)


@pytest.mark.parametrize("dead", ["daemon", "shim", "both"])
async def test_a_check_that_is_cut_short_ends_and_does_not_count(daemon: Daemon, tmp_path: Path, dead: str) -> None:
    process, check_pid = await long_check(daemon, tmp_path)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    if dead != "shim":
        await daemon.kill()
    if dead != "daemon":
        os.kill(shim, signal.SIGKILL)
    if dead != "shim":
        await daemon.start()
    await eventually(lambda: not is_running(check_pid))
    if dead == "both":  # nobody knows how the process has ended, and it is started again
        await until(daemon, process, restart_count=1, health_status="healthy")
        return
    seen = await until(daemon, process, health_status="healthy")
    assert (seen["pid"], seen["run"]) == (process["pid"], 1)
    assert "unhealthy 1" not in await told(daemon, process)


async def test_the_end_of_a_process_ends_its_check(daemon: Daemon, tmp_path: Path) -> None:
    process, check_pid = await long_check(daemon, tmp_path)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    await eventually(lambda: not is_running(check_pid))


async def test_a_check_does_not_keep_the_shim(daemon: Daemon, tmp_path: Path) -> None:
    """`outlast shutdown` ends the shim, which it does only when it has no process left."""
    _, check_pid = await long_check(daemon, tmp_path)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.end_everything()
    await wait_until_gone(check_pid)
    await wait_until_gone(shim)

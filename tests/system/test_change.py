"""A managed process that is given another specification in place."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from outlast.failpoints import VARIABLE
from tests.support.daemon import Daemon, is_running, shim_children
from tests.support.waiting import eventually

NEVER = {"policy": "never"}


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"command": "sh", "args": ["-c", script], "restart": NEVER, **fields}


OLD = shell("echo old; exec sleep 600", tags={"is": "old"}, env={"A": "1"}, stop_grace_ms=1)


async def put(daemon: Daemon, ref: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.call("PUT", f"/processes/{ref}", status, body=body)
    return answer


async def put_and_die(daemon: Daemon, body: dict[str, Any]) -> None:
    """Make a change during which the daemon dies. The client of these tests would repeat it at the next daemon."""
    putting = asyncio.create_task(put(daemon, "web", body))
    await daemon.died()
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)


async def runs(daemon: Daemon) -> list[tuple[int, str | None]]:
    found = (await daemon.call("GET", "/processes/web/runs", 200))["runs"]
    return [(run["run"], run["reason"]) for run in found]


@pytest.fixture
async def web(daemon: Daemon) -> dict[str, Any]:
    process: dict[str, Any] = await daemon.call("POST", "/processes", 201, body={**OLD, "name": "web"})
    await daemon.wait_for_lines(process, 1)
    return process


async def test_a_change_goes_on_in_place(daemon: Daemon, web: dict[str, Any]) -> None:
    """The id, the name, the numbers of lines and the followers stay; all else is as the new specification says."""
    following = asyncio.create_task(daemon.drained(web))
    new = shell("echo new; echo err >&2", tags={"is": "new"}, stderr_mode="discard", working_dir="/usr", keep="always")
    changed = await put(daemon, "web", new)
    assert (changed["changed"], changed["id"], changed["handle"], changed["run"]) == (True, web["id"], web["handle"], 2)
    seen = await daemon.get(web)
    assert (seen["args"], seen["tags"], seen["stderr_mode"]) == (new["args"], {"is": "new"}, "discard")
    assert (seen["working_dir"], seen["name"]) == ("/usr", "web")
    events = await following
    assert [(event.id, event.data["line"]) for event in events[:-1]] == [(1, "old\n"), (2, "new\n")]
    for tag, count in (("old", 0), ("new", 1)):
        assert len((await daemon.call("GET", f"/processes?tag=is:{tag}", 200))["processes"]) == count
    assert daemon.sql("SELECT always FROM keep") == [(1,)]


async def test_the_same_specification_changes_nothing(daemon: Daemon, web: dict[str, Any]) -> None:
    """Also for the next daemon. Other values of the environment are another specification."""
    for _ in range(2):
        same = await put(daemon, "web", {**OLD, "name": "web"})
        assert (same["changed"], same["pid"], same["run"]) == (False, web["pid"], 1)
        await daemon.kill()
        await daemon.start()
    other = await put(daemon, f"@{web['handle']}", {**OLD, "env": {"A": "2"}})
    assert (other["changed"], other["run"]) == (True, 2)
    assert not (await put(daemon, "web", {**OLD, "env": {"A": "2"}}))["changed"]


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"command": "/no/such/program"}, "was not found"),
        ({"command": "no-such-program"}, "was not found"),
        ({"command": "/etc/passwd"}, "is not executable"),
        ({"working_dir": "/no/such/folder"}, "cannot enter working_dir"),
        ({"user": "no-such-user"}, "does not exist"),
    ],
)
async def test_the_run_goes_on_if_the_new_one_cannot_be_started(
    daemon: Daemon, web: dict[str, Any], fields: dict[str, Any], phrase: str
) -> None:
    refused = await put(daemon, "web", {**OLD, **fields}, 422)
    assert phrase in refused["error"]
    assert refused["code"] == "SPAWN_FAILED"
    seen = await daemon.get(web)
    assert (seen["pid"], seen["run"], seen["args"], seen["status"]) == (web["pid"], 1, OLD["args"], "running")


async def test_the_program_before_is_started_again_if_only_the_kernel_refuses(
    daemon: Daemon, web: dict[str, Any], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    refused = await put(daemon, "web", {"command": str(program)}, 422)
    assert refused["error"].endswith("the process was not changed: its program before was started again")
    seen = await daemon.get(web)
    assert (seen["run"], seen["command"], seen["tags"], seen["status"]) == (2, "sh", OLD["tags"], "running")
    await daemon.wait_for_lines(web, 2)
    assert await daemon.lines(web) == ["old", "old"]
    assert not (await put(daemon, "web", OLD))["changed"]


async def test_a_process_that_has_stopped_is_started(daemon: Daemon, web: dict[str, Any], tmp_path: Path) -> None:
    """If that fails, it stays stopped."""
    await daemon.call("DELETE", "/processes/web", 204)
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    await put(daemon, "web", {"command": str(program)}, 422)
    seen = await daemon.get(web)
    assert (seen["run"], seen["managed"]["status"], seen["command"]) == (1, "stopped", "sh")
    again = await put(daemon, "web", OLD)
    assert (again["changed"], again["run"], again["status"]) == (True, 2, "running")


async def test_changes_that_come_at_once_come_one_by_one(daemon: Daemon, web: dict[str, Any]) -> None:
    """Each run has its own program, and the last one is what is shown."""
    scripts = [f"echo {number}; exec sleep 600" for number in range(4)]
    await asyncio.gather(*(put(daemon, "web", shell(script, stop_grace_ms=1)) for script in scripts))
    await eventually(lambda: daemon.sql("SELECT max(run) FROM runs") == [(5,)])
    await daemon.wait_for_lines(web, 5)
    lines = await daemon.lines(web)
    assert sorted(lines) == ["0", "1", "2", "3", "old"]
    assert (await daemon.get(web))["args"][1] == f"echo {lines[-1]}; exec sleep 600"


async def test_what_cannot_be_changed_is_named(daemon: Daemon, web: dict[str, Any]) -> None:
    assert "name cannot be changed" in (await put(daemon, web["id"], {**OLD, "name": "other"}, 400))["error"]
    assert "idempotency_key" in (await put(daemon, "web", {**OLD, "idempotency_key": "x"}, 400))["error"]
    await put(daemon, "nobody", OLD, 404)
    plain = await daemon.run("sleep", "600")
    assert (await put(daemon, plain["id"], OLD, 400))["code"] == "NOT_MANAGED"


POINTS = ["replacement-begun", "replaced-run-ended", "restart-forked", "restart-recorded", "end-seen"]


@pytest.mark.parametrize(
    "point", [*POINTS, *(f"{when}-commit:{n}" for n in (1, 2, 3, 4) for when in ("before", "after"))]
)
async def test_a_change_is_finished_once_by_the_next_daemon(
    crashable_daemon: Daemon, tmp_path: Path, point: str
) -> None:
    """Whenever this one dies: the new program is started once, or not at all if the old one runs on."""
    daemon, started = crashable_daemon, tmp_path / "started"
    await daemon.start()
    process = await daemon.call("POST", "/processes", 201, body={**OLD, "name": "web"})
    await daemon.wait_for_lines(process, 1)
    await daemon.kill()
    daemon.environment[VARIABLE] = point
    await daemon.start()
    new = shell(f"echo x >> {started}; echo new; exec sleep 600", tags={"is": "new"}, stop_grace_ms=1)
    await put_and_die(daemon, new)
    await daemon.start()
    await put(daemon, "web", new)
    await daemon.wait_for_lines(process, 2)
    assert started.read_text() == "x\n"
    assert await daemon.lines(process) == ["old", "new"]
    assert [number for number, _ in await runs(daemon)] == [2, 1]
    seen = await daemon.get(process)
    assert (seen["args"], seen["tags"], seen["status"]) == (new["args"], {"is": "new"}, "running")
    assert not is_running(process["pid"])


async def test_a_begun_change_needs_no_second_call(crashable_daemon: Daemon, tmp_path: Path) -> None:
    daemon, started = crashable_daemon, tmp_path / "started"
    daemon.environment[VARIABLE] = "replacement-begun"
    await daemon.start()
    process = await daemon.call("POST", "/processes", 201, body={**OLD, "name": "web"})
    await put_and_die(daemon, shell(f"echo x >> {started}; exec sleep 600", stop_grace_ms=1))
    await daemon.start()
    await eventually(lambda: started.exists() and started.read_text() == "x\n")
    assert not is_running(process["pid"])


@pytest.mark.parametrize("point", ["replacement-begun", "replaced-run-ended"])
async def test_a_restart_is_finished_by_the_next_daemon(crashable_daemon: Daemon, point: str) -> None:
    """Also of a process that its policy would not restart."""
    daemon = crashable_daemon
    daemon.environment[VARIABLE] = point
    await daemon.start()
    process = await daemon.call("POST", "/processes", 201, body={**OLD, "name": "web"})
    await daemon.wait_for_lines(process, 1)
    with contextlib.suppress(aiohttp.ClientError):
        await daemon.call("POST", "/processes/web/restart", 200)
    await daemon.died()
    await daemon.start()
    await daemon.wait_for_lines(process, 2)
    assert [number for number, _ in await runs(daemon)] == [2, 1]


async def test_a_purge_leaves_nothing_of_what_is_changed_meanwhile(daemon: Daemon) -> None:
    """Whichever call comes first: no run is started behind the purge, and the name is free."""
    for turn in range(6):
        body = {**OLD, "name": "web", "restart": {"policy": "always"}}
        process = await daemon.call("POST", "/processes", 201, body=body)
        if turn % 2:
            await daemon.call("DELETE", "/processes/web", 204)
        path = f"/processes/{process['id']}"
        calls = [
            daemon.client.call(
                "PUT", path, 200, 404, body={**shell("exec sleep 600"), "restart": {"policy": "always"}}
            ),
            daemon.call("DELETE", f"{path}?purge=true", 204),
            daemon.client.call("POST", f"{path}/restart", 200, 404),
        ]
        await asyncio.gather(*calls[turn // 2 :], *calls[: turn // 2])
        await daemon.call("GET", f"/processes/{process['id']}", 404)
        await eventually(lambda: not shim_children(daemon.state_dir))

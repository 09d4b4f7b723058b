"""Managed processes: names, runs, restarts, health; and the deaths of daemons around them."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from outlast.failpoints import VARIABLE
from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, is_running, outlast, shim_pid
from tests.support.faulty import FaultyStore
from tests.support.waiting import eventually

QUICK = {"policy": "on_failure", "initial_backoff_ms": 1, "max_backoff_ms": 1}
LONG_BACKOFF = {"initial_backoff_ms": 86400000, "max_backoff_ms": 86400000}


async def until(daemon: Daemon, process: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """Wait until a process's `managed` block shows all of this, and return the process."""

    async def look() -> dict[str, Any] | None:
        seen = await daemon.get(process)
        return seen if wanted.items() <= seen["managed"].items() else None

    return await eventually(look, str(wanted))


async def runs(daemon: Daemon, process: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await daemon.call("GET", f"/processes/{process['id']}/runs", 200))["runs"]
    return found


@pytest.fixture
async def job(daemon: Daemon, tmp_path: Path) -> dict[str, Any]:
    """A process that has failed twice and then succeeded; its secret is in its environment and in its output."""
    counter = tmp_path / "count"
    script = f'echo "$SECRET out"; echo err >&2; echo x >> {counter}; [ $(wc -l < {counter}) -ge 3 ]'
    process = await daemon.sh(script, name="job-1", restart=QUICK, env={"SECRET": "s3cret"})
    assert process["managed"]["status"] == "running"
    return process


async def test_output_continues_over_all_runs(daemon: Daemon, job: dict[str, Any]) -> None:
    """Numbers go on, following goes on, and there is one `eof`: when the process is not started again."""
    events = await daemon.drained(job)
    assert [event.kind for event in events] == ["output"] * 6 + ["eof"]
    assert [event.id for event in events[:-1]] == [1, 2, 3, 4, 5, 6]
    assert sorted(event.data["line"] for event in events[:-1]) == ["err\n"] * 3 + ["s3cret out\n"] * 3
    assert await daemon.raw(job, "stdout") == b"s3cret out\n" * 3


async def test_a_job_is_started_again_until_it_succeeds(daemon: Daemon, job: dict[str, Any]) -> None:
    await daemon.drained(job)
    seen = await daemon.get(job)
    assert (seen["run"], seen["managed"]["status"], seen["managed"]["restart_count"]) == (3, "stopped", 2)
    assert seen["managed"]["last_exit"]["exit_code"] == seen["exit_code"] == 0
    assert daemon.sql("SELECT name, status, restart_count FROM managed_processes") == [("job-1", "stopped", 2)]


async def test_each_run_is_listed(daemon: Daemon, job: dict[str, Any]) -> None:
    await daemon.drained(job)
    told = await runs(daemon, job)
    assert [(run["run"], run["exit_code"]) for run in told] == [(3, 0), (2, 1), (1, 1)]
    page = await daemon.call("GET", f"/processes/{job['id']}/runs?limit=2", 200)
    rest = await daemon.call("GET", f"/processes/{job['id']}/runs?limit=2&cursor={page['next']}", 200)
    assert page["runs"] + rest["runs"] == told
    assert rest["next"] is None
    for run in told:
        assert (await daemon.call("GET", f"/processes/{run['pid']}", 200))["id"] == job["id"]


async def test_an_environment_is_stored_only_encrypted(daemon: Daemon, job: dict[str, Any]) -> None:
    await daemon.drained(job)
    for path in daemon.state_dir.rglob("*"):
        if path.is_file() and path.name != "env.key":
            assert b"s3cret" not in path.read_bytes().replace(b"s3cret out", b""), path
    assert (daemon.state_dir / "env.key").stat().st_mode & 0o777 == 0o600


NAMED = {"command": "sleep", "args": ["600"], "name": "web é:?"}
BY_NAME = "/processes/web%20%C3%A9%3A%3F"


async def test_a_name_has_one_live_holder(daemon: Daemon) -> None:
    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(start(daemon, NAMED)) for _ in range(4)]
    answers = [task.result() for task in starts]
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409]
    assert {answer["code"] for status, answer in answers if status == 409} == {"NAME_IN_USE"}
    (process,) = [answer for status, answer in answers if status == 201]
    assert (await daemon.call("GET", BY_NAME, 200))["id"] == process["id"]
    assert process["managed"]["id"] == process["managed"]["name"] == NAMED["name"]


async def test_a_process_is_stopped_by_its_name(daemon: Daemon) -> None:
    _, process = await start(daemon, NAMED)
    await daemon.call("DELETE", BY_NAME, 204)
    assert not is_running(process["pid"])
    stopped = await daemon.call("GET", BY_NAME, 200)
    assert (stopped["id"], stopped["managed"]["status"], stopped["signal"]) == (process["id"], "stopped", 15)


async def test_a_name_is_held_while_its_process_waits_for_a_restart(daemon: Daemon) -> None:
    _, process = await start(daemon, NAMED)
    await daemon.call("DELETE", BY_NAME, 204)
    _, second = await start(daemon, {"command": "false", "name": NAMED["name"], "restart": LONG_BACKOFF})
    waiting = await until(daemon, second, status="backing_off")
    assert waiting["managed"]["next_restart_at"] >= waiting["ended_at"]
    assert (await start(daemon, NAMED))[0] == 409
    await daemon.call("POST", f"/processes/{process['id']}/restart", 409)
    assert (await daemon.call("GET", BY_NAME, 200))["id"] == second["id"]
    await daemon.call("DELETE", BY_NAME, 204)
    again = await daemon.call("POST", f"/processes/{process['id']}/restart", 200)
    assert (again["run"], again["status"], again["managed"]["status"]) == (2, "running", "running")
    assert (await daemon.call("GET", BY_NAME, 200))["id"] == process["id"]


async def test_a_process_that_is_not_managed_is_not_restarted(daemon: Daemon) -> None:
    process = await daemon.sh("true")
    assert (await daemon.call("POST", f"/processes/{process['id']}/restart", 400))["code"] == "NOT_MANAGED"


async def test_an_unknown_name_is_not_found(daemon: Daemon) -> None:
    assert (await daemon.call("GET", "/processes/nobody", 404))["code"] == "NOT_FOUND"


async def start(daemon: Daemon, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
        return response.status, await response.json()


async def test_a_restart_ends_the_old_tree_first(daemon: Daemon) -> None:
    """In order: SIGTERM, then SIGKILL after the grace; a grandchild that holds the pipe goes, too."""
    script = "setsid sleep 600 & echo $!; trap 'echo no' TERM; while :; do sleep 0.01; done"
    process = await daemon.sh(script, restart={"policy": "never"}, stop_grace_ms=200)
    await daemon.wait_for_lines(process, 1)
    grandchild = int((await daemon.lines(process))[0])
    again = await daemon.call("POST", f"/processes/{process['id']}/restart", 200)
    assert (again["run"], again["pid"] != process["pid"]) == (2, True)
    assert (await runs(daemon, process))[1]["signal"] == 9
    await eventually(lambda: not is_running(grandchild))
    await daemon.wait_for_lines(process, 3)
    assert "no" in await daemon.lines(process)
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    assert daemon.sql("SELECT count(*) FROM managed_processes") == [(0,)]


async def test_a_stop_begins_with_the_stop_signal(daemon: Daemon) -> None:
    script = "trap 'echo interrupted; exit 5' INT; trap '' TERM; echo ready; while :; do sleep 0.01; done"
    process = await daemon.sh(script, name="interruptible", stop_signal="int", stop_grace_ms=86400000)
    await daemon.wait_for_lines(process, 1)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert (await daemon.get(process))["exit_code"] == 5
    assert await daemon.lines(process) == ["ready", "interrupted"]


async def test_a_service_on_the_ipv6_loopback_is_healthy(daemon: Daemon) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        check = {"type": "tcp", "port": port, "initial_delay_ms": 0, "timeout_ms": 2000}
        process = await daemon.run("sleep", "1000", health_check=check)
        await until(daemon, process, health_status="healthy")


NAMES = (
    "a b",
    " x ",
    "ä",
    "\uff11\uff12",
    "\u00b2",
    "a%2Fb",
    "100%",
    "#1",
    "a?b",
    "a+b",
    "...",
    "a;b=c",
    "run",
    "search",
    "\\",
    "'\"",
)


async def test_every_name_that_a_start_takes_is_found(daemon: Daemon) -> None:
    await asyncio.gather(*(use_by_name(daemon, name) for name in NAMES))


async def use_by_name(daemon: Daemon, name: str) -> None:
    """Start a process with this name, make each call by it, and remove the process."""
    process = await daemon.sh("read line; echo $line", name=name, stdin_mode="pipe", restart={"policy": "never"})
    path = f"/processes/{quote(name, safe='')}"
    assert (await daemon.call("GET", path, 200))["id"] == process["id"], name
    listed = (await daemon.call("GET", f"/processes?name={quote(name)}", 200))["processes"]
    assert [found["id"] for found in listed] == [process["id"]], name
    await daemon.call("POST", f"{path}/stdin", 204, data=b"hello\n")
    await daemon.call("GET", f"{path}/wait?until=exit", 200)
    assert (await daemon.call("GET", f"{path}/output", 200))["lines"] == ["hello"], name
    assert len((await daemon.call("GET", f"{path}/runs", 200))["runs"]) == 1, name
    await daemon.call("DELETE", f"{path}?purge=true", 204)


async def test_each_restart_policy_is_followed(daemon: Daemon, tmp_path: Path) -> None:
    """Never; on failure only; at most so often in a row; always. A program that cannot be run any more is a failure."""
    never = await daemon.sh("exit 1", restart={**QUICK, "policy": "never"})
    fine = await daemon.sh("exit 0", restart=QUICK)
    thrice = await daemon.sh("exit 1", restart={**QUICK, "max_restarts": 3})
    always = await daemon.sh("exit 0", restart={**QUICK, "policy": "always"})
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nrm -f $0\nexit 1\n")
    program.chmod(0o755)
    gone = await daemon.run(str(program), restart={**QUICK, "max_restarts": 2})
    for process, count in ((never, 0), (fine, 0), (thrice, 3)):
        await until(daemon, process, status="stopped", restart_count=count)
    seen = await until(daemon, gone, status="stopped", restart_count=0)
    assert "was not found" in seen["managed"]["last_error"]
    assert [run["run"] for run in await runs(daemon, gone)] == [1]
    await eventually(lambda: has_run(daemon, always, 4))
    await daemon.call("DELETE", f"/processes/{always['id']}", 204)
    assert (await daemon.get(always))["managed"]["status"] == "stopped"


async def has_run(daemon: Daemon, process: dict[str, Any], number: int) -> bool:
    return bool((await daemon.get(process))["run"] >= number)


async def told(daemon: Daemon, process: dict[str, Any]) -> list[str]:
    """Return the events of a process, each with its run."""
    path = f"/events?process={process['id']}"
    answer = await daemon.client.request("GET", path, headers={"Accept": "application/x-ndjson"})
    return [f"{event['type']} {event['run']}" for event in map(json.loads, answer.body.splitlines())]


@pytest.mark.parametrize("way", ["policy", "maximum", "DELETE"])
async def test_the_end_of_restarts_is_told_once(daemon: Daemon, way: str) -> None:
    """Also over a kill of the daemon, and again only after a restart on request."""
    restart = {"policy": "never"} if way == "policy" else {**QUICK, "max_restarts": 1}
    process = await daemon.sh("exec sleep 600" if way == "DELETE" else "exit 3", name="web", restart=restart)
    if way == "DELETE":
        await daemon.call("DELETE", "/processes/web", 204)
        await daemon.call("DELETE", "/processes/web", 204)
    await until(daemon, process, status="stopped")
    expected = {
        "policy": ["started 1", "exited 1", "stopped 1"],
        "maximum": ["started 1", "exited 1", "restarted 2", "exited 2", "stopped 2"],
        "DELETE": ["started 1", "stopped 1", "exited 1"],
    }[way]
    assert await told(daemon, process) == expected
    await daemon.kill()
    await daemon.start()
    assert await told(daemon, process) == expected
    await daemon.call("POST", "/processes/web/restart", 200)
    await daemon.call("DELETE", "/processes/web", 204)
    again = await told(daemon, process)
    assert [event.split()[0] for event in again].count("stopped") == 2


async def test_an_unhealthy_process_is_restarted(daemon: Daemon, tmp_path: Path) -> None:
    """Healthy while it answers; unhealthy, killed and started again when it no longer does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    page = tmp_path / "page"
    page.write_text("fine")
    check = {
        "type": "http",
        "port": port,
        "path": "/page",
        "initial_delay_ms": 0,
        "interval_ms": 20,
        "timeout_ms": 2000,
    }
    server = ["-m", "http.server", "--bind", "127.0.0.1", str(port)]
    fields = {"working_dir": str(tmp_path), "health_check": {**check, "failure_threshold": 100}, "restart": QUICK}
    process = await daemon.run("python3", *server, **fields)
    tcp = await daemon.sh("sleep 600", health_check={"type": "tcp", "port": port, "initial_delay_ms": 0})
    assert process["managed"]["health_status"] in {"starting", "healthy"}
    await until(daemon, process, health_status="healthy", consecutive_health_failures=0)
    await until(daemon, tcp, health_status="healthy")
    page.unlink()
    seen = await until(daemon, process, restart_count=1)
    assert (await runs(daemon, process))[1]["signal"] == 9
    assert seen["managed"]["last_exit"]["signal"] == 9
    page.write_text("fine again")
    await until(daemon, process, health_status="healthy", consecutive_health_failures=0, status="running")
    expected = ["started 1", "healthy 1", "unhealthy 1", "exited 1", "restarted 2", "healthy 2"]

    async def all_is_told() -> bool:  # the state is shown before it is stored, and told of
        return await told(daemon, process) == expected

    await eventually(all_is_told)
    plain = await daemon.sh("sleep 600", name="plain")
    assert plain["managed"]["health_status"] == "disabled"


@pytest.mark.parametrize(
    "armed",
    [
        *("restart-decided", "restart-forked", "restart-recorded", "restart-forked:2", "restart-decided:2"),
        *("end-seen", "before-last-ack", "after-last-ack:2", "before-commit:6", "after-commit:6", "before-commit:9"),
    ],
)
async def test_each_run_is_started_once(crashable_daemon: Daemon, tmp_path: Path, armed: str) -> None:
    """A daemon dies at a point around a restart. Each run has run once, and its line is there once."""
    crashable_daemon.environment[VARIABLE] = armed
    started = tmp_path / "started"
    script = f'echo x >> {started}; echo "run $(wc -l < {started})"; [ $(wc -l < {started}) -ge 4 ]'
    await crashable_daemon.start()
    with contextlib.suppress(aiohttp.ClientError):  # it may die before it has answered
        await crashable_daemon.sh(script, name="job", restart=QUICK)
    await crashable_daemon.died()
    await crashable_daemon.start()
    process = await crashable_daemon.call("GET", "/processes/job", 200)
    events = await crashable_daemon.drained(process)
    assert [event.data["line"] for event in events[:-1]] == [f"run {n}\n" for n in range(1, 5)]
    assert [event.id for event in events[:-1]] == [1, 2, 3, 4]
    assert started.read_text() == "x\n" * 4
    told = [(run["run"], run["exit_code"]) for run in await runs(crashable_daemon, process)]
    assert told == [(4, 0), (3, 1), (2, 1), (1, 1)]
    assert (await crashable_daemon.get(process))["managed"]["status"] == "stopped"


@pytest.mark.parametrize("point", ["restart-forked", "restart-recorded"])
async def test_a_run_interrupted_at_its_start_has_not_executed(
    crashable_daemon: Daemon, tmp_path: Path, point: str
) -> None:
    """The gate of every run opens when that run is recorded, and not before."""
    crashable_daemon.environment[VARIABLE] = point
    started = tmp_path / "started"
    script = f"echo x >> {started}; [ $(wc -l < {started}) -ge 2 ] && exec sleep 1000; exit 1"
    await crashable_daemon.start()
    with contextlib.suppress(aiohttp.ClientError):
        await crashable_daemon.sh(script, name="job", restart=QUICK)
    await crashable_daemon.died()
    shim = shim_pid(crashable_daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    assert started.read_text() == "x\n"
    await crashable_daemon.start()
    await eventually(lambda: started.read_text() == "x\n" * 2)
    process = await crashable_daemon.call("GET", "/processes/job", 200)
    told = [(run["run"], run["reason"]) for run in await runs(crashable_daemon, process)]
    lost = [(2, "lost")] if point == "restart-recorded" else []
    assert told == [(2 + len(lost), None), *lost, (1, "exited")]


async def end_is_seen(daemon: Daemon, process: dict[str, Any]) -> bool:
    return not (await daemon.get(process))["stdin_writable"]


@pytest.mark.slow
async def test_a_stop_waits_for_an_end_that_is_not_stored_yet(state_dir: Path, tmp_path: Path) -> None:
    """The process ends by itself while the wish to stop it is being stored: nobody is held up meanwhile."""
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        process = await daemon.run("cat", name="job", restart={"policy": "always"}, stdin_mode="pipe")
        store.inject(Mode.SLOW, delay_s=1.0)
        stop = asyncio.create_task(daemon.call("DELETE", "/processes/job", 204))
        for _ in range(5):
            await daemon.get(process)  # by now it is on its way into the store that it is to stop
        os.kill(process["pid"], signal.SIGKILL)
        await eventually(lambda: end_is_seen(daemon, process))
        while not stop.done():
            async with asyncio.timeout(20):
                await daemon.call("GET", "/info", 200)
        await stop
        store.mend()
        seen = await daemon.get(process)
        assert (seen["managed"]["status"], seen["signal"], seen["run"]) == ("stopped", 9, 1)
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_backoff_outlives_the_daemon(daemon: Daemon) -> None:
    waiting = await daemon.sh("exit 1", name="waiting", restart=LONG_BACKOFF)
    before = await until(daemon, waiting, status="backing_off")
    await daemon.kill()
    await daemon.start()
    assert (await daemon.get(waiting))["managed"] == before["managed"]
    await daemon.kill()
    await daemon.start()
    again = await daemon.call("POST", "/processes/waiting/restart", 200)
    assert again["run"] == 2
    await until(daemon, waiting, status="backing_off", restart_count=1)


async def test_an_end_without_a_daemon_leads_to_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    failing, go = tmp_path / "failing", tmp_path / "go"
    failing.touch()
    script = f"while [ ! -e {go} ]; do sleep 0.01; done; [ ! -e {failing} ]"
    unseen = await daemon.sh(script, name="unseen", restart=QUICK)
    await daemon.kill()
    go.touch()
    await eventually(lambda: not is_running(unseen["pid"]))
    await daemon.start()
    await until(daemon, unseen, status="running")
    await eventually(lambda: has_run(daemon, unseen, 3))
    failing.unlink()
    await until(daemon, unseen, status="stopped")


async def test_the_next_daemon_finishes_a_stop(crashable_daemon: Daemon) -> None:
    daemon = crashable_daemon
    daemon.environment[VARIABLE] = "stop-wanted"
    await daemon.start()
    stubborn = await daemon.sh(
        "trap '' TERM; echo ready; while :; do sleep 0.01; done", name="stubborn", stop_grace_ms=300
    )
    await daemon.wait_for_lines(stubborn, 1)
    deletion = asyncio.create_task(daemon.call("DELETE", "/processes/stubborn", 204))
    await daemon.died()
    deletion.cancel()  # the client may have sent it again, to the next daemon
    await asyncio.gather(deletion, return_exceptions=True)
    assert is_running(stubborn["pid"])
    await daemon.start()
    seen = await until(daemon, stubborn, status="stopped")
    assert (seen["signal"], seen["run"]) == (9, 1)


async def test_down_stops_managed_processes_permanently(daemon: Daemon) -> None:
    waiting = await daemon.sh("exit 1", name="waiting", restart=LONG_BACKOFF)
    await until(daemon, waiting, status="backing_off")
    steady = await daemon.sh("sleep 600", name="steady", restart={"policy": "always"})
    await daemon.stop()
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir), OUTLAST_STOP_GRACE_MS="0")
    assert code == 0, output
    await daemon.start()
    for process in (waiting, steady):
        assert (await daemon.get(process))["managed"]["status"] == "stopped"


async def web_process(daemon: Daemon) -> dict[str, Any]:
    """Start a managed process that prints a variable of its environment, and wait for the line."""
    process = await daemon.sh("echo $A; exec sleep 600", name="web", restart=QUICK, env={"A": "value"})
    await daemon.wait_for_lines(process, 1)
    return process


async def test_a_lost_run_is_restarted_as_a_failure(daemon: Daemon) -> None:
    """Shim and daemon die together."""
    process = await web_process(daemon)
    pid = shim_pid(daemon.state_dir)
    assert pid is not None
    await daemon.kill()
    os.kill(pid, 9)
    await daemon.start()
    seen = await until(daemon, process, status="running", restart_count=1)
    assert seen["managed"]["last_exit"]["exit_code"] is seen["managed"]["last_exit"]["signal"] is None
    assert not is_running(process["pid"])
    await daemon.wait_for_lines(process, 2)
    assert await daemon.lines(process) == ["value", "value"]


async def test_a_process_is_not_restarted_without_the_key_of_its_environment(daemon: Daemon) -> None:
    process = await web_process(daemon)
    (daemon.state_dir / "env.key").rename(daemon.state_dir / "gone")
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": 9})
    seen = await until(daemon, process, status="stopped")
    assert "env.key" in seen["managed"]["last_error"]
    answer = await daemon.call("POST", "/processes/web/restart", 409)
    assert answer["code"] == "ENV_KEY_LOST"
    (daemon.state_dir / "gone").rename(daemon.state_dir / "env.key")
    assert (await daemon.call("POST", "/processes/web/restart", 200))["run"] == 2

"""Managed processes that are ready once they have printed a line."""

import json
from functools import partial
from typing import Any

from tests.support.daemon import Daemon
from tests.support.metrics import scrape
from tests.support.waiting import eventually

ECHO = {"stdin_mode": "pipe", "restart": {"delay_ms": 0, "policy": "always"}}
HAS_ENDED = "SELECT count(*) FROM processes WHERE id = ? AND status = 'exited'"
READY = "^ready, [0-9]+$"


async def health(daemon: Daemon, process: dict[str, Any], wanted: str, run: int = 1) -> None:
    async def look() -> bool:
        seen = await daemon.get(process)
        return (seen["run"], seen["managed"]["health_status"]) == (run, wanted)

    await eventually(look, f"{wanted} in run {run}")


async def say(daemon: Daemon, process: dict[str, Any], line: str) -> None:
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=f"{line}\n".encode())

    async def is_shown() -> bool:
        return line in await daemon.lines(process)

    await eventually(is_shown, line)


async def told(daemon: Daemon, process: dict[str, Any]) -> list[str]:
    """Return the events of a process, each with its run."""
    headers = {"Accept": "application/x-ndjson"}
    answer = await daemon.client.request("GET", f"/events?process={process['id']}", headers=headers)
    return [f"{event['type']} {event['run']}" for event in map(json.loads, answer.body.splitlines())]


async def test_a_run_is_healthy_once_a_line_of_it_matches(daemon: Daemon) -> None:
    process = await daemon.run("cat", ready_log=READY, **ECHO)
    assert process["managed"]["ready_log"] == READY
    await say(daemon, process, "not ready, 1")
    await health(daemon, process, "starting")
    await say(daemon, process, "ready, 2")
    await health(daemon, process, "healthy")
    await daemon.call("POST", f"/processes/{process['id']}/restart", 200)
    await health(daemon, process, "starting", run=2)
    await say(daemon, process, "ready, 3")
    await health(daemon, process, "healthy", run=2)
    assert await told(daemon, process) == ["started 1", "healthy 1", "exited 1", "restarted 2", "healthy 2"]


async def test_the_next_daemon_goes_on_looking(daemon: Daemon) -> None:
    """The next daemon finds what was printed while there was no daemon, and tells of nothing twice."""
    waiting = await daemon.run("cat", ready_log=READY, **ECHO)
    ready = await daemon.sh("echo ready, 1; sleep 1000", ready_log=READY)
    late = await daemon.sh("read line; sleep 0.5; echo ready, 2; sleep 1000", ready_log=READY, stdin_mode="pipe")
    await health(daemon, ready, "healthy")
    await daemon.call("POST", f"/processes/{late['id']}/stdin", 204, data=b"go\n")
    await daemon.kill()
    await daemon.start()
    await health(daemon, late, "healthy")
    await health(daemon, ready, "healthy")
    await health(daemon, waiting, "starting")
    await say(daemon, waiting, "ready, 3")
    await health(daemon, waiting, "healthy")
    for process in (waiting, ready, late):
        assert await told(daemon, process) == ["started 1", "healthy 1"]


def has_ended(daemon: Daemon, process: dict[str, Any]) -> bool:
    """Tell whether a process has ended, without a call, because calls make commits."""
    return daemon.sql(HAS_ENDED, process["id"]) == [(1,)]


async def test_looking_for_the_line_makes_no_commits(daemon: Daemon) -> None:
    """Output that nobody follows is stored as seldom as without it."""
    script = "for i in $(seq 100); do echo $i; sleep 0.02; done"
    commits = []
    for fields in ({}, {"ready_log": "never", "restart": {"policy": "never"}}):
        before = (await scrape(daemon))("outlast_commits_total")
        process = await daemon.sh(script, **fields)
        await eventually(partial(has_ended, daemon, process))
        commits.append(((await scrape(daemon))("outlast_commits_total") or 0) - (before or 0))
    assert commits[1] <= commits[0] + 8, commits

"""Retention: what is over a limit goes, oldest first; what runs, or may be restarted, stays."""

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import eventually
from tests.system.test_events import stored

OFTEN = """
import sys
if "serve" in sys.orig_argv:
    import outlast.core.retention.sweeper as sweeper
    sweeper.INTERVAL_S = 0.05
"""
"""A patch: the daemon looks at what is stored twenty times a second."""

GATED = """
    import asyncio
    from pathlib import Path
    from outlast.core.retention.purger import Purger
    purge, gate = Purger._purge, Path({gate!r})

    async def wait_and_purge(self, rule, found):
        while found and not gate.exists():
            gate.with_suffix(".reached").touch()
            await asyncio.sleep(0.01)
        return await purge(self, rule, found)

    Purger._purge = wait_and_purge
"""
"""Another patch: before it purges what it has found, the daemon waits until a file exists."""


@pytest.fixture
async def keeper(state_dir: Path) -> AsyncIterator[Daemon]:
    """Yield a daemon that looks often, and is not started."""
    daemon = patched_daemon(state_dir, OFTEN)
    try:
        yield daemon
    finally:
        await daemon.end_everything()


async def start_with(daemon: Daemon, **settings: int) -> None:
    """Start the daemon with settings of retention, or start it again."""
    config = daemon.state_dir.parent / "outlast.toml"
    config.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    daemon.environment["OUTLAST_CONFIG"] = str(config)
    if daemon.process is not None:
        await daemon.stop()
    await daemon.start()


async def handles(daemon: Daemon) -> list[int]:
    """Return the handles of all processes, in order."""
    answer = await daemon.call("GET", "/processes?limit=1000&order=oldest", 200)
    return [process["handle"] for process in answer["processes"]]


async def run_to_end(daemon: Daemon, **fields: Any) -> dict[str, Any]:
    """Run a command that prints its name, to its end."""
    process = await daemon.ended(await daemon.run("echo", "hello", **fields))
    await eventually(lambda: _is_complete(daemon, process), "the whole output")
    return process


async def _is_complete(daemon: Daemon, process: dict[str, Any]) -> bool:
    rows = daemon.sql("SELECT output_complete FROM processes WHERE id = ?", process["id"])
    return rows == [(1,)]


async def wait_for_handles(daemon: Daemon, expected: list[int]) -> None:
    async def are_left() -> bool:
        return await handles(daemon) == expected

    await eventually(are_left, f"only processes {expected}")


async def test_only_the_newest_ended_processes_are_kept(keeper: Daemon) -> None:
    await start_with(keeper, keep_ended=0)
    running = await keeper.run("sleep", "1000")
    waiting = await keeper.run(
        "false",
        name="waiting",
        restart={"policy": "always", "initial_backoff_ms": 3_600_000, "max_backoff_ms": 3_600_000},
    )
    stopped = await run_to_end(keeper, name="stopped", restart={"policy": "never"})
    ended = [await run_to_end(keeper) for _ in range(40)]
    assert len(await handles(keeper)) == 43, "nothing goes by a limit of 0"

    await start_with(keeper, keep_ended=3)
    kept = [process["handle"] for process in (running, waiting, *ended[-3:])]
    await wait_for_handles(keeper, kept)
    gone = await stored(keeper, "?type=purged")
    assert {event["process_id"] for event in gone} == {process["id"] for process in (stopped, *ended[:-3])}
    assert {event["reason"] for event in gone} == {"retention"}
    assert len(await stored(keeper, "?type=started")) == len(kept)
    assert (await keeper.call("GET", "/info", 200))["total_processes"] == len(kept)
    await keeper.call("GET", f"/processes/{ended[0]['id']}/output", 404)
    deleted = r"deleted to keep within the limits: (.*)"
    (told,) = await eventually(lambda: re.findall(deleted, keeper.log), "the log tells")
    assert re.fullmatch(r"\d+ ended processes by keep_ended", told)

    newest = await run_to_end(keeper)
    await wait_for_handles(keeper, [*kept[:2], *kept[3:], newest["handle"]])
    await keeper.call("DELETE", f"/processes/{newest['id']}?purge=true", 204)
    (asked,) = await stored(keeper, f"?process={newest['id']}")
    assert "reason" not in asked, "a client asked for it"
    assert len(re.findall("deleted to keep", keeper.log)) == 1, "at most once an hour"


async def test_ended_processes_go_when_they_are_old(keeper: Daemon) -> None:
    await start_with(keeper, keep_ended_s=3600)
    running = await keeper.run("sleep", "1000")
    old, young = [await run_to_end(keeper) for _ in range(2)]
    await keeper.stop()
    with contextlib.closing(sqlite3.connect(keeper.state_dir / "outlast.db")) as db, db:
        db.execute("UPDATE run SET ended_at = ended_at - 3600000 WHERE handle = ?", (old["handle"],))
    await keeper.start()
    await wait_for_handles(keeper, [running["handle"], young["handle"]])
    (gone,) = await stored(keeper, "?type=purged")
    assert (gone["process_id"], gone["reason"]) == (old["id"], "retention")


@pytest.mark.parametrize("setting", ["keep_ended", "keep_ended_s"])
async def test_a_service_that_has_given_up_goes_with_what_has_ended(keeper: Daemon, setting: str) -> None:
    await start_with(keeper, keep_ended=0)
    quick = {"policy": "on_failure", "initial_backoff_ms": 10, "max_backoff_ms": 10}
    given_up = await keeper.run("false", name="given-up", restart={**quick, "max_restarts": 2})
    kept = await keeper.run("false", name="kept", restart={**quick, "max_restarts": 2}, keep="always")
    trying = await keeper.run("false", name="trying", restart={**quick, "max_restarts": 1_000_000})

    async def have_given_up() -> bool:
        shown = [await keeper.get(process) for process in (given_up, kept)]
        return [(process["run"], process["managed"]["status"]) for process in shown] == [(3, "stopped")] * 2

    await eventually(have_given_up, "two services that are not restarted any more")
    assert len(await handles(keeper)) == 3, "nothing goes by a limit of 0"

    await start_with(keeper, **{setting: 1})
    plain = [await run_to_end(keeper) for _ in range(2)] if setting == "keep_ended" else []
    await wait_for_handles(keeper, [process["handle"] for process in (kept, trying, *plain[1:])])
    (gone,) = await stored(keeper, f"?type=purged&process={given_up['id']}")
    assert gone["reason"] == "retention"
    again = await keeper.run("sleep", "1000", name="given-up")
    assert again["id"] != given_up["id"], "the name is free"


async def test_a_restart_wins_over_a_purge_that_has_not_begun(state_dir: Path) -> None:
    gate = state_dir.parent / "gate"
    keeper = patched_daemon(state_dir, OFTEN + GATED.format(gate=str(gate)))
    try:
        await start_with(keeper, keep_ended=0)
        web = await keeper.run("sleep", "1000", name="web", restart={"policy": "never"})
        await keeper.call("DELETE", f"/processes/{web['id']}", 204)
        await eventually(lambda: _is_complete(keeper, web), "the whole output")
        plain = [await run_to_end(keeper) for _ in range(2)]
        await start_with(keeper, keep_ended=1)
        await eventually(gate.with_suffix(".reached").exists, "a purge that is about to begin")
        again = await keeper.call("POST", f"/processes/{web['id']}/restart", 200)
        gate.touch()
        await wait_for_handles(keeper, [web["handle"], plain[1]["handle"]])
        assert (again["run"], Path(f"/proc/{again['pid']}").exists()) == (2, True)
        shown = await keeper.call("GET", f"/processes/{web['id']}", 200)
        assert (shown["pid"], shown["status"]) == (again["pid"], "running")
        await keeper.call("POST", f"/processes/{plain[0]['id']}/restart", 404)
    finally:
        await keeper.end_everything()

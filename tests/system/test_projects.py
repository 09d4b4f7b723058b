"""Projects in the daemon: order, changes, ends, and kills of the daemon in between."""

import asyncio
import json
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

ALWAYS = {"policy": "always", "delay_ms": 10}
NEVER = {"policy": "never"}


def sh(script: str, needs: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A declared process that runs a script."""
    start = {"command": "sh", "args": ["-c", script], "restart": NEVER, **fields}
    return {"start": start, "depends_on": dict(needs or {})}


def sleeper(needs: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A declared process that runs until it is ended, and has a line when it is up."""
    return sh("echo up; exec sleep 1000", needs, **fields)


async def put(daemon: Daemon, processes: dict[str, Any], name: str = "shop", query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = await daemon.call("PUT", f"/projects/{name}{query}", 200, {"processes": processes})
    return found


async def settled(daemon: Daemon, name: str = "shop") -> dict[str, str]:
    """Wait until nothing is left to wait for, and return the statuses."""
    shown = await daemon.call("GET", f"/projects/{name}?wait={DEADLINE_S}", 200)
    assert shown["settled"], shown
    return {short: told["status"] for short, told in shown["processes"].items()}


async def ids(daemon: Daemon, name: str = "shop") -> dict[str, str]:
    shown = await daemon.call("GET", f"/projects/{name}", 200)
    return {short: told["id"] for short, told in shown["processes"].items()}


async def runs(daemon: Daemon) -> dict[str, list[str]]:
    """Return the ids of the processes that run, by name."""
    found: dict[str, list[str]] = {}
    for process in (await daemon.call("GET", "/processes?status=running", 200))["processes"]:
        found.setdefault(process["name"], []).append(process["id"])
    return found


async def test_each_starts_when_what_it_waits_for_holds(daemon: Daemon, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    processes = {
        "web": sh(f"echo web >> {log}; exec sleep 1000", {"db": "healthy", "migrate": "completed_successfully"}),
        "db": sh(f"echo db >> {log}; sleep 0.3; echo up >> {log}; echo ready; exec sleep 1000", ready_log="ready"),
        "early": sh(f"echo early >> {log}", {"db": "healthy"}),
        "migrate": sh(f"echo migrate >> {log}; sleep 0.2; echo done >> {log}", {"db": "log_ready"}),
        "watch": sh(f"echo watch >> {log}; exec sleep 1000", {"web": "started"}),
        "report": sh(f"echo report >> {log}", {"migrate": "completed"}),
    }
    applied = await put(daemon, processes)
    assert applied["created"] == list(processes)
    assert applied["waiting"]["web"] == "for db to be healthy"
    await eventually(lambda: len(log.read_text().split()) == 8)
    await eventually(partial(_has_status, daemon, "report", "completed"))
    assert await settled(daemon) == {
        "web": "running",
        "db": "healthy",
        "early": "completed",
        "migrate": "completed",
        "watch": "running",
        "report": "completed",
    }
    written = log.read_text().split()
    assert written[:2] == ["db", "up"]
    assert sorted(written) == sorted(["db", "up", "early", "migrate", "done", "report", "web", "watch"])
    assert written.index("web") > written.index("done")
    assert written.index("report") > written.index("done")
    process = await daemon.call("GET", "/processes/shop.db", 200)
    assert process["tags"] == {"project": "shop"}


async def test_what_cannot_come_any_more_is_skipped_with_the_reason(daemon: Daemon) -> None:
    processes = {
        "bad": sh("exit 3"),
        "none": {"start": {"command": "/no/such"}},
        "off": {**sleeper(), "disabled": True},
        "a": sleeper({"bad": "completed_successfully"}),
        "b": sleeper({"a": "started"}),
        "c": sleeper({"off": "started"}),
        "d": sleeper({"none": "started"}),
        "e": sleeper({"bad": "completed"}),
    }
    await put(daemon, processes)
    assert await settled(daemon) == {
        "bad": "failed",
        "none": "failed",
        "off": "disabled",
        **dict.fromkeys("abcd", "skipped"),
        "e": "running",
    }
    shown = (await daemon.call("GET", "/projects/shop", 200))["processes"]
    assert shown["a"]["reason"] == "bad is failed, and cannot be completed successfully any more"
    assert "/no/such" in shown["none"]["reason"]


async def test_the_same_again_touches_nothing_and_a_change_touches_one(daemon: Daemon) -> None:
    processes = {f"p{n}": sleeper(env={"SECRET": "one"}) for n in range(8)}
    processes["job"] = sh("echo done", {"p0": "started"})
    await put(daemon, processes)
    await settled(daemon)
    before = await ids(daemon)
    applied = await put(daemon, processes)
    assert applied == {
        "created": [],
        "changed": [],
        "removed": [],
        "restarted": [],
        "unchanged": list(processes),
        "orphans": [],
        "waiting": {},
    }
    assert await settled(daemon)
    assert await ids(daemon) == before
    processes["p3"] = sleeper(env={"SECRET": "two"})
    assert (await put(daemon, processes, query="?dry_run=true"))["changed"] == ["p3"]
    assert await ids(daemon) == before
    assert (await put(daemon, processes))["changed"] == ["p3"]
    await settled(daemon)
    after = await ids(daemon)
    assert {short for short in after if after[short] != before[short]} == {"p3"}
    assert (await daemon.call("GET", f"/processes/{before['p3']}", 200))["status"] == "signaled"
    assert (await daemon.call("GET", "/processes/shop.p3", 200))["id"] == after["p3"]
    kept = (daemon.state_dir / "projects" / "shop.json").read_text()
    assert "SECRET" in kept
    assert '"one"' not in kept
    assert '"two"' not in kept
    applied = await put(daemon, processes, query="?force=true&process=p1")
    assert applied["changed"] == ["p1"]


async def test_what_had_failed_is_started_again_in_place(daemon: Daemon, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    processes = {"a": sh(f"[ -e {flag} ] && exec sleep 1000; exit 3"), "b": sleeper({"a": "started"})}
    await put(daemon, processes)
    assert await settled(daemon) == {"a": "failed", "b": "running"}
    before = await ids(daemon)
    flag.touch()
    await daemon.call("DELETE", "/processes/shop.b", 204)
    assert sorted((await put(daemon, processes))["restarted"]) == ["a", "b"]
    assert await settled(daemon) == {"a": "running", "b": "running"}
    assert await ids(daemon) == before
    assert (await daemon.call("GET", "/processes/shop.a", 200))["run"] == 2


async def test_what_is_declared_no_more_is_named_or_ended(daemon: Daemon) -> None:
    await put(daemon, {"a": sleeper(), "b": sleeper()})
    await settled(daemon)
    assert (await put(daemon, {"a": sleeper()}))["orphans"] == ["b"]
    assert set(await runs(daemon)) == {"shop.a", "shop.b"}
    assert (await put(daemon, {"a": sleeper()}, query="?remove_orphans=true"))["removed"] == ["b"]
    await eventually(lambda: _only(daemon, {"shop.a"}))
    await put(daemon, {})
    await put(daemon, {"a": sleeper(env={"A": "1"})})  # it takes the place of the orphan
    await settled(daemon)
    assert {name: len(found) for name, found in (await runs(daemon)).items()} == {"shop.a": 1}


async def _has_status(daemon: Daemon, short: str, status: str) -> bool:
    shown = await daemon.call("GET", "/projects/shop", 200)
    return bool(shown["processes"][short]["status"] == status)


async def _only(daemon: Daemon, names: set[str]) -> bool:
    return set(await runs(daemon)) == names


async def test_an_end_is_in_reverse_order_and_each_waits_for_the_last(daemon: Daemon, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def slow(name: str, **needs: str) -> dict[str, Any]:
        trap = f"trap 'sleep 0.2; echo {name} >> {log}; exit 0' TERM; echo up; while :; do sleep 0.02; done"
        return sh(trap, needs, ready_log="up")

    await put(daemon, {"db": slow("db"), "web": slow("web", db="healthy"), "proxy": slow("proxy", web="healthy")})
    await settled(daemon)
    await daemon.call("DELETE", "/projects/shop?process=proxy", 204)
    assert await settled(daemon) == {"db": "healthy", "web": "healthy", "proxy": "stopped"}
    await daemon.call("DELETE", "/projects/shop", 204)
    assert log.read_text().split() == ["proxy", "web", "db"]
    assert await daemon.call("GET", "/projects", 200) == {"projects": []}
    await daemon.call("GET", "/projects/shop", 404)
    assert list((daemon.state_dir / "projects").iterdir()) == []


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        ({"a": sleeper({"b": "started"}), "b": sleeper({"a": "started"})}, "in a circle: a -> b -> a"),
        ({"a": sleeper({"x": "started"})}, "processes.a.depends_on names 'x', which is not declared"),
        ({"a": sleeper({"b": "healthy"}), "b": sleeper()}, "b has no health_check or ready_log, and cannot be healthy"),
        ({"a": sleeper({"b": "soon"}), "b": sleeper()}, "processes.a.depends_on.b must be one of"),
        ({"a": {"start": {"command": "true", "name": "x"}}}, "processes.a.start.name"),
        ({"a/b": sleeper()}, "processes.a/b must be"),
        ({"a": {"start": {}}}, "command"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused_and_nothing_is_done(
    daemon: Daemon, processes: dict[str, Any], sentence: str
) -> None:
    await put(daemon, {"old": sleeper()})
    await settled(daemon)
    answer = await daemon.call("PUT", "/projects/shop", 400, {"processes": processes})
    assert sentence in json.dumps(answer)
    assert (await daemon.call("PUT", "/projects/a.b", 400, {"processes": {}}))["code"] == "INVALID_REQUEST"
    assert set(await ids(daemon)) == {"old"}
    assert set(await runs(daemon)) == {"shop.old"}


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_kills_of_the_daemon_at_any_time_end_in_what_was_declared_last(daemon: Daemon, kills: int) -> None:
    """Applications, changes and ends, each cut off by a kill: nothing runs twice, and nothing is left over."""
    draw = random.Random(7)
    for version in range(kills):
        declared = {
            "db": sleeper(ready_log="up", env={"V": str(version // 3)}),
            "web": sleeper({"db": "healthy"}, env={"V": str(version)}),
            "job": sh("echo done", {"db": "healthy"}),
            "extra": sleeper({"job": "completed_successfully"}),
        }
        if draw.random() < 0.3:
            del declared["extra"]
        is_end = draw.random() < 0.3
        await put(daemon, declared, query="?remove_orphans=true")
        await asyncio.sleep(draw.random() * 0.3)  # where the kill comes is up to chance
        if is_end:
            await daemon.call("DELETE", "/projects/shop?wait=0", 202)
            await asyncio.sleep(draw.random() * 0.05)
        await daemon.kill()
        await daemon.start()
        if is_end:
            await eventually(lambda: _only(daemon, set()), "all ends")
            await eventually(lambda: _is_forgotten(daemon))
        else:
            await settled(daemon)
            wanted = {f"shop.{short}" for short in declared if short != "job"}
            await eventually(partial(_only, daemon, wanted), str(wanted))
            assert all(len(found) == 1 for found in (await runs(daemon)).values())


async def _is_forgotten(daemon: Daemon) -> bool:
    return bool(await daemon.call("GET", "/projects", 200) == {"projects": []})


async def test_files_that_are_no_projects_are_left_alone(daemon: Daemon) -> None:
    """The daemon starts all the same, and a copy of a project is not a second one."""
    await put(daemon, {"web": sleeper()})
    await settled(daemon)
    before = await ids(daemon)
    await daemon.stop()
    folder = daemon.state_dir / "projects"
    kept = (folder / "shop.json").read_text()
    fields = json.loads(kept)
    broken = {
        "empty": "",
        "half": kept[: len(kept) // 2],
        "binary": "\0\0",
        "list": "[]",
        "deep": "[" * 100_000,
        "entries": json.dumps({**fields, "name": "entries", "entries": []}),
        "orphans": json.dumps({**fields, "name": "orphans", "orphans": []}),
        "copy": kept,
    }
    for name, text in broken.items():
        (folder / f"{name}.json").write_text(text)
    await daemon.start()
    assert await daemon.call("GET", "/projects", 200) == {"projects": ["shop"]}
    assert await settled(daemon) == {"web": "running"}
    assert await ids(daemon) == before
    assert {name: (folder / f"{name}.json").read_text() for name in broken} == broken
    assert daemon.log.count("is left alone") == len(broken)

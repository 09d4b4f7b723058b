"""References to processes in calls: pid, id, name, and `@` with the handle."""

from typing import Any

import pytest

from tests.support.daemon import Daemon


def handle_of(process: dict[str, Any]) -> str:
    return f"@{process['handle']}"


async def test_a_handle_names_a_process_over_a_restart_of_the_daemon(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    assert await daemon.call("GET", f"/processes/{handle_of(process)}", 200) == process
    await daemon.kill()
    await daemon.start()
    assert await daemon.call("GET", f"/processes/{handle_of(process)}", 200) == process
    await daemon.call("POST", f"/processes/{handle_of(process)}/stdin", 204, data=b"hello\n")
    await daemon.wait_for_lines(process, 1)
    assert (await daemon.call("GET", f"/processes/{handle_of(process)}/output", 200))["lines"] == ["hello"]
    await daemon.call("DELETE", f"/processes/{handle_of(process)}", 204)
    assert (await daemon.get(process))["reason"] == "signaled"


async def test_a_handle_is_not_used_again_after_a_purge(daemon: Daemon) -> None:
    purged = await daemon.run("true")
    await daemon.call("DELETE", f"/processes/{handle_of(purged)}?purge=true", 204)
    await daemon.kill()
    await daemon.start()
    later = await daemon.run("true")
    assert later["handle"] > purged["handle"]
    error = await daemon.call("GET", f"/processes/{handle_of(purged)}", 404)
    assert handle_of(purged) in error["error"]


async def test_a_handle_keeps_its_process_over_runs(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000", name="web")
    again = await daemon.call("POST", f"/processes/{handle_of(process)}/restart", 200)
    assert (again["handle"], again["run"]) == (process["handle"], 2)
    assert again["pid"] != process["pid"]


@pytest.mark.parametrize(
    "ref", ["@0", "@9", "@999999999999999999", "@1000000000000000000000", "@", "@1x", "@%EF%BC%91"]
)
async def test_a_reference_that_names_nothing_is_not_found(daemon: Daemon, ref: str) -> None:
    await daemon.run("true")
    assert (await daemon.call("GET", f"/processes/{ref}", 404))["code"] == "NOT_FOUND"


async def test_no_process_is_named_like_a_handle(daemon: Daemon) -> None:
    error = await daemon.call("POST", "/processes", 400, {"command": "true", "name": "@12"})
    assert error["error"].startswith("name must not look like")
    named = await daemon.run("true", name="@12a", restart={"policy": "never"})
    assert (await daemon.call("GET", "/processes/@12a", 200))["id"] == named["id"]


async def test_events_and_searches_are_narrowed_by_handle(daemon: Daemon) -> None:
    processes = [await daemon.sh("echo hit") for _ in range(2)]
    for process in processes:
        await daemon.ended(process)
    for process in processes:
        found = await daemon.call("GET", f"/search?q=hit&process={handle_of(process)}", 200)
        assert [(match["process_id"], match["handle"]) for match in found["matches"]] == [
            (process["id"], process["handle"])
        ]
        path = f"/events?process={handle_of(process)}"
        events = await daemon.client.request("GET", path, headers={"Accept": "application/x-ndjson"})
        assert events.body.count(b"\n") == events.body.count(process["id"].encode()) == 2
    for path in ("/search?q=hit&process=@99", "/events?process=@99"):
        assert "'@99'" in (await daemon.call("GET", path, 404))["error"]

"""POST /api/v1/processes/run: started, streamed to the end, killed when the caller hangs up."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import pytest

from tests.support.daemon import PYTHON, Daemon, is_running, shim_pid
from tests.support.waiting import eventually


class RunEvents:
    """The data of a run's events. `last_id`: the last id that came."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = aiter(response.content)
        self.last_id = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            line = await anext(self._lines)
            assert line == b"\n" or line.startswith((b"id: ", b"data: ", b":")), line
            if line.startswith(b"id: "):
                self.last_id = int(line[4:])
            if line.startswith(b"data: "):
                event: dict[str, Any] = json.loads(line[6:])
                return event


@asynccontextmanager
async def running(daemon: Daemon, command: str, *args: str, query: str = "", **fields: Any) -> AsyncIterator[RunEvents]:
    """Give the events of a run, one by one; the end of the block hangs up."""
    url = f"{daemon.url}/api/v1/processes/run{query}"
    body = {"command": command, "args": list(args), **fields}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {daemon.token}"}) as session:
        response = await session.post(url, json=body, timeout=aiohttp.ClientTimeout(total=60))
        assert response.status == 200, await response.read()
        assert response.content_type == "text/event-stream"
        yield RunEvents(response)
        response.close()


async def run(daemon: Daemon, command: str, *args: str, **fields: Any) -> list[dict[str, Any]]:
    async with running(daemon, command, *args, **fields) as stream:
        return [event async for event in stream]


def texts(found: list[dict[str, Any]], stream: str) -> list[str]:
    return [event["line"] for event in found if event.get("stream") == stream]


async def test_output_is_streamed(daemon: Daemon) -> None:
    first, *found, last = await run(daemon, "sh", "-c", "echo one; echo two >&2; echo; printf 'no end'; exit 3")
    process = await daemon.get(first)
    assert first == {"pid": process["pid"], "started_at": process["started_at"], "id": process["id"]}
    assert texts(found, "stdout") == ["one", "", "no end"]
    assert texts(found, "stderr") == ["two"]
    assert all(set(event) == {"line", "timestamp", "stream"} for event in found)
    assert last == {"exit_code": 3, "oom_killed": False, "reason": "exited"}
    assert await daemon.raw(first, "stdout") == b"one\n\nno end"


async def test_the_last_event_of_a_killed_command_has_its_signal(daemon: Daemon) -> None:
    *_, last = await run(daemon, "sh", "-c", "kill -TERM $$")
    assert last == {"signal": signal.SIGTERM, "oom_killed": False, "reason": "signaled"}


async def test_the_last_event_tells_of_a_timeout(daemon: Daemon) -> None:
    *_, last = await run(daemon, "sleep", "1000", timeout=0.3)
    assert last == {"signal": signal.SIGKILL, "oom_killed": False, "reason": "timed_out"}


async def test_a_part_of_a_line_waits_for_its_rest(daemon: Daemon) -> None:
    parts = "import os, time\nos.write(1, b'a')\ntime.sleep(0.5)\nos.write(2, b'err\\n')\nos.write(1, b'b\\xff\\nc')"
    found = await run(daemon, PYTHON, "-c", parts)
    assert texts(found, "stdout") == ["ab\ufffd", "c"]


async def test_a_flood_is_streamed_whole(daemon: Daemon) -> None:
    count = 50_000
    found = await run(daemon, "seq", str(count))
    assert texts(found, "stdout") == [str(n) for n in range(1, count + 1)]


async def test_a_grandchild_that_holds_the_pipe_does_not_delay_the_end(daemon: Daemon) -> None:
    """The stream ends with the command, and the grandchild is let live."""
    first, *_, last = await run(daemon, "sh", "-c", "sleep 1000 & echo $!")
    assert last["exit_code"] == 0
    await daemon.call("DELETE", f"/processes/{first['id']}", 204)


async def test_a_command_that_cannot_run_is_an_error(daemon: Daemon) -> None:
    answer = await daemon.call("POST", "/processes/run", 422, {"command": "/no/such/program"})
    assert (answer["code"], answer["errno"]) == ("SPAWN_FAILED", 2)
    answer = await daemon.call("POST", "/processes/run", 400, {"command": "true", "timeout": 0})
    assert answer["error"].startswith("timeout must be")
    answer = await daemon.call("POST", "/processes/run?detach=yes", 400, {"command": "true"})
    assert answer["error"].startswith("detach must be")
    assert (await daemon.call("GET", "/processes", 200))["processes"] == []


async def test_hanging_up_kills_the_tree_unless_detached(daemon: Daemon) -> None:
    script = "setsid sh -c 'echo $$; exec sleep 1000' & wait"
    pids = {}
    for query in ("", "?detach=true"):
        async with running(daemon, "sh", "-c", script, query=query) as stream:
            first = await anext(stream)
            pids[query] = (first, int((await anext(stream))["line"]))
    killed, grandchild = pids[""]
    assert (await daemon.ended(killed))["signal"] == signal.SIGKILL
    await eventually(lambda: not is_running(grandchild))
    detached, grandchild = pids["?detach=true"]
    assert (await daemon.get(detached))["status"] == "running"
    assert is_running(grandchild)
    assert is_running(detached["pid"])


async def test_only_the_caller_that_started_a_command_ends_it(daemon: Daemon) -> None:
    """A second caller with the key watches the first one's command."""
    key = {"idempotency_key": "one"}
    async with running(daemon, "sleep", "1000", **key) as stream:
        first = await anext(stream)
        async with running(daemon, "sleep", "1000", **key) as watched:
            assert (await anext(watched))["id"] == first["id"]
        async with running(daemon, "sleep", "1000") as other:  # so that a kill by the second caller would be over
            second = await anext(other)
        assert (await daemon.ended(second))["signal"] == signal.SIGKILL
        assert (await daemon.get(first))["status"] == "running"
    assert (await daemon.ended(first))["signal"] == signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_restart_does_not_count_as_hanging_up(daemon: Daemon, number: int) -> None:
    script = "echo before; read line; echo $line; exit 7"
    found: list[dict[str, Any]] = []
    async with running(daemon, "sh", "-c", script, stdin_mode="pipe") as stream:
        first = await anext(stream)
        found.append(await anext(stream))
        await daemon.stop(number)
        with pytest.raises(aiohttp.ClientPayloadError):
            found += [event async for event in stream]
    assert [event["line"] for event in found] == ["before"], "no end is told, for there was none"
    await daemon.start()
    assert is_running(first["pid"])
    await daemon.call("POST", f"/processes/{first['id']}/stdin", 204, data=b"after\n")
    ended = await daemon.ended(first)
    assert (ended["exit_code"], await daemon.lines(first)) == (7, ["before", "after"])


async def test_a_command_without_a_client_is_killed_after_a_shim_death(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    async with running(daemon, "sleep", "1000") as stream:
        first = await anext(stream)
        os.kill(shim, signal.SIGSTOP)
        os.kill(shim, signal.SIGKILL)
    assert (await daemon.ended(first))["signal"] == signal.SIGKILL


async def test_a_broken_run_is_followed_from_its_last_line(daemon: Daemon) -> None:
    script = "echo one; echo two >&2; printf three; read line; echo; echo four"
    async with running(daemon, "sh", "-c", script, stdin_mode="pipe") as stream:
        first = await anext(stream)
        before = [(await anext(stream))["line"] for _ in range(2)]
        last_id = stream.last_id
        await daemon.stop()
    await daemon.start()
    await daemon.call("POST", f"/processes/{first['id']}/stdin", 204, data=b"go on\n")
    after = [event async for event in daemon.follow(first, query=f"?after={last_id}") if event.kind == "output"]
    assert sorted(before) == ["one", "two"]
    assert "".join(event.data["line"] for event in after) == "three\nfour\n"

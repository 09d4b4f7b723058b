"""The API of a real daemon with a shim and processes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon

from .server import until

NASTY = b'plain\r\n\xff\xfe\0"\\",\n\x7f\xe2\x80\xa8tail\n\n\x1b[1mno end'


def printing(data: bytes, stream: str = "stdout") -> str:
    return f"import sys; sys.{stream}.buffer.write({data!r})"


async def test_all_forms_hold_the_same_output(daemon: Daemon) -> None:
    process = await daemon.python(printing(NASTY))
    await daemon.ended(process)
    assert await daemon.raw(process) == NASTY
    texts = NASTY.decode("utf-8", "replace").split("\n")
    assert await daemon.lines(process) == texts
    path = f"/processes/{process['id']}"
    events = [event.data["line"] for event in await daemon.drained(process) if event.kind == "output"]
    assert events == [f"{text}\n" for text in texts[:-1]] + [texts[-1]]
    url = f"{daemon.url}/api/v1{path}/stdout"
    async with daemon.session.get(url, headers={"Accept": "application/x-ndjson"}) as response:
        rows = [json.loads(line) async for line in response.content]
    assert [(row["id"], row["line"], row["stream"]) for row in rows] == [
        (number, line, "stdout") for number, line in enumerate(events, 1)
    ]
    seen = await daemon.get(process)
    assert seen["output"] == {
        "lines": 5,
        "bytes": len(NASTY),
        "first_seq": 1,
        "last_seq": 5,
        "last_at": rows[-1]["timestamp"],
        "trimmed": None,
    }
    assert await daemon.lines(process, "stderr") == []


RANGES: list[tuple[str, list[str]]] = [
    ("?limit=2", ["line 1", "line 2"]),
    ("?after=8", ["line 9", "line 10"]),
    ("?tail=1", ["line 10"]),
    ("?tail=5&limit=1", ["line 6"]),
    ("?tail=5&after=8", ["line 9", "line 10"]),
    ("?grep=1", ["line 1", "line 10"]),
    ("?grep=1&limit=1", ["line 1"]),
    ("?grep=l.ne", []),
    ("?limit=0", []),
    ("?until=1710000000000", []),
    ("?since=9007199254740991", []),
]


async def test_each_range_selects_its_lines(daemon: Daemon) -> None:
    process = await daemon.sh("seq -f 'line %g' 10")
    await daemon.ended(process)
    for query, expected in RANGES:
        assert await daemon.lines(process, "output", query) == expected, query
        assert (await daemon.raw(process, "output", query)).decode().splitlines() == expected, query


async def test_a_prompt_is_followed_as_a_part_of_its_line(daemon: Daemon) -> None:
    process = await daemon.sh("printf 'name? '; read name; echo hello $name", stdin_mode="pipe")
    follower = daemon.follow(process)
    first = await anext(follower)
    assert first.data["line"] == "name? "
    await daemon.call("POST", f"/processes/{process['pid']}/stdin", 204, data=b"Bob\n")
    assert (await anext(follower)).data["line"] == "hello Bob\n"
    assert (await anext(follower)).kind == "eof"
    await follower.aclose()
    assert await daemon.lines(process) == ["name? hello Bob"]


async def test_a_follower_that_resumes_sees_each_line_once(daemon: Daemon) -> None:
    process = await daemon.sh("seq 1 20000")
    seen: list[int] = []
    last = 0
    while True:
        async for event in daemon.follow(
            process, query="?tail=100000", **({"Last-Event-ID": str(last)} if last else {})
        ):
            if event.kind == "eof":
                assert seen == list(range(1, 20001))
                return
            assert event.id is not None
            seen.append(int(event.data["line"]))
            last = event.id
            if last % 4999 == 0:
                break


async def test_stdin_may_have_any_size(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    path = f"/processes/{process['id']}"
    data = b"".join(b"%07d\n" % number for number in range(400_000))

    async def body() -> Any:
        for start in range(0, len(data), 300_000):
            yield data[start : start + 300_000]

    await daemon.call("POST", f"{path}/stdin", 204, data=body())
    await daemon.call("POST", f"{path}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.raw(process) == data
    assert (await daemon.call("POST", f"{path}/stdin", 400, data=b"x"))["code"] == "NOT_RUNNING"


async def test_a_blocked_writer_delays_no_other_call(daemon: Daemon) -> None:
    process = await daemon.sh("sleep 600", stdin_mode="pipe")
    path = f"/processes/{process['id']}"
    stuck = asyncio.create_task(daemon.call("POST", f"{path}/stdin", 400, data=b"x" * 1_000_000))
    for _ in range(20):
        await daemon.get(process)
    assert not stuck.done()
    await daemon.call("DELETE", path, 204)
    assert (await stuck)["code"] == "NOT_RUNNING"


@pytest.fixture
async def ended_processes(daemon: Daemon) -> list[str]:
    """Run five processes with tags, and return their ids, newest first."""
    made = [await daemon.run("true", tags={"n": str(number % 2), "all": "x:y"}) for number in range(5)]
    for process in made:
        await daemon.ended(process)
    return [process["id"] for process in reversed(made)]


async def test_pages_hold_each_process_once(daemon: Daemon, ended_processes: list[str]) -> None:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await daemon.call("GET", f"/processes?limit=2{cursor and '&cursor='}{cursor}", 200)
        found += [process["id"] for process in page["processes"]]
        cursor = page["next"]
    assert found == ended_processes


async def test_filters_select_processes(daemon: Daemon, ended_processes: list[str]) -> None:
    page = await daemon.call("GET", "/processes?tag=n:0&tag=all:x:y&status=exited", 200)
    assert [process["id"] for process in page["processes"]] == ended_processes[::2]
    assert (await daemon.call("GET", "/processes?status=running", 200))["processes"] == []


async def test_a_signal_ends_a_process(daemon: Daemon) -> None:
    process = await daemon.sh("sleep 600")
    assert await daemon.call("POST", f"/processes/{process['pid']}/signal", 200, {"signal": "TERM"}) == {
        "success": True
    }
    ended = await daemon.ended(process)
    assert (ended["status"], ended["signal"], ended["exit_code"], ended["reason"]) == ("signaled", 15, None, "signaled")
    path = f"/processes/{process['id']}"
    assert (await daemon.call("POST", f"{path}/signal", 400, {"signal": 9}))["code"] == "NOT_RUNNING"


async def test_a_purged_process_is_not_found(daemon: Daemon) -> None:
    process = await daemon.sh("kill -TERM $$")
    await daemon.ended(process)
    path = f"/processes/{process['id']}"
    await daemon.call("DELETE", path, 204)
    await daemon.call("DELETE", f"{path}?purge=true", 204)
    assert (await daemon.call("GET", path, 404))["code"] == "NOT_FOUND"
    assert (await daemon.call("DELETE", path, 404))["code"] == "NOT_FOUND"


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_followers_that_hang_up_leave_nothing_behind(daemon: Daemon) -> None:
    process = await daemon.sh("echo; sleep 600")
    before = open_files(daemon.pid)
    followers = [daemon.follow(process) for _ in range(20)]
    for follower in followers:
        await anext(follower)
    assert open_files(daemon.pid) >= before + 19
    for follower in followers:
        await follower.aclose()
    await until(lambda: open_files(daemon.pid) <= before)
    assert "Traceback" not in daemon.log


async def test_examples_of_the_document_work(daemon: Daemon) -> None:
    """The page /docs sends them when "Execute" is clicked."""
    document = await daemon.call("GET", "/openapi.json", 200)

    def example(path: str) -> Any:
        return document["paths"][f"/api/v1{path}"]["post"]["requestBody"]["content"]["application/json"]["example"]

    process = await daemon.call("POST", "/processes", 201, example("/processes"))
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, example("/processes/{ref}/signal"))
    assert (await daemon.call("POST", "/sql", 200, example("/sql")))["rows"][0][0] == process["id"]
    async with daemon.session.post(f"{daemon.url}/api/v1/processes/run", json=example("/processes/run")) as answer:
        assert answer.status == 200
        assert '"exit_code":0' in await answer.text()

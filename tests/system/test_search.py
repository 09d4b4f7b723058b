"""GET /api/v1/search: over the output of all processes, in either order, page by page."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import eventually


async def search(daemon: Daemon, q: str, query: str = "", status: int = 200) -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.call("GET", f"/search?q={quote(q)}{query}", status)
    return answer


async def every_page(daemon: Daemon, q: str, query: str, limit: int) -> list[tuple[str, int, str]]:
    found: list[tuple[str, int, str]] = []
    cursor = ""
    for _ in range(50):
        page = await search(daemon, q, f"{query}&limit={limit}{cursor}")
        assert page["complete"]
        assert len(page["matches"]) <= limit
        found += [(match["process_id"], match["seq"], match["line"]) for match in page["matches"]]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"
    raise AssertionError(f"there is no end: {found}")


@dataclass(frozen=True)
class Written:
    """Three processes, and all of their lines that begin with "hit": process id, number, text."""

    first: dict[str, Any]
    second: dict[str, Any]
    binary: dict[str, Any]
    hits: list[tuple[str, int, str]]


@pytest.fixture
async def written(daemon: Daemon) -> Written:
    script = "for i in 1 2 3 4 5; do echo hit $i $0; echo miss $i; echo hit err $i >&2; done"
    first = await daemon.run("sh", "-c", script, "a", tags={"team": "a"})
    await daemon.ended(first)
    second = await daemon.run("sh", "-c", script, "b", tags={"team": "b"})
    await daemon.ended(second)
    binary = await daemon.sh("printf 'hit \\377\\000 here\\n'; printf 'hit without end'")
    await daemon.ended(binary)
    hits = []
    for process in (first, second, binary):
        output = await daemon.call("GET", f"/processes/{process['id']}/output", 200)
        hits += [(process["id"], seq, line) for seq, line in enumerate(output["lines"], 1) if line.startswith("hit")]
    assert len(hits) == 22
    return Written(first, second, binary, hits)


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_pages_hold_each_match_once(daemon: Daemon, written: Written, limit: int) -> None:
    assert await every_page(daemon, "hit", "&order=oldest", limit) == written.hits
    assert await every_page(daemon, "hit", "", limit) == written.hits[::-1]


async def test_a_search_is_narrowed_to_processes(daemon: Daemon, written: Written) -> None:
    of_second = [line for line in written.hits if line[0] == written.second["id"]]
    assert await every_page(daemon, "hit", "&tag=team:b&order=oldest", 4) == of_second
    assert await every_page(daemon, "hit", f"&process={written.second['id'].lower()}&order=oldest", 4) == of_second


async def test_a_search_is_narrowed_to_a_stream(daemon: Daemon, written: Written) -> None:
    errors = [line for line in written.hits if "err" in line[2]]
    assert await every_page(daemon, "hit", "&stream=stderr&order=oldest", 4) == errors


async def test_lines_are_found_by_a_regular_expression(daemon: Daemon, written: Written) -> None:
    assert await every_page(daemon, "^hit (err )?[45]( b)?$", "&regex=true&order=oldest", 4) == [
        line for line in written.hits if line[2][-1] in "45" or line[2][-3:] in ("4 b", "5 b")
    ]


async def test_a_search_is_narrowed_to_a_time(daemon: Daemon, written: Written) -> None:
    ended_at = (await daemon.get(written.binary))["ended_at"]
    assert await every_page(daemon, "hit", f"&since={ended_at + 60_000}", 4) == []
    assert await every_page(daemon, "hit", f"&until={ended_at + 60_000}", 1000) == written.hits[::-1]


@pytest.mark.usefixtures("written")
async def test_a_search_is_case_sensitive(daemon: Daemon) -> None:
    assert await every_page(daemon, "HIT", "", 4) == []


async def test_a_match_names_its_position(daemon: Daemon, written: Written) -> None:
    (match,) = (await search(daemon, "without end"))["matches"]
    assert {**match, "timestamp": 0} == {
        "process_id": written.binary["id"],
        "name": None,
        "handle": written.binary["handle"],
        "command": "sh",
        "run": 1,
        "pid": written.binary["pid"],
        "seq": 2,
        "timestamp": 0,
        "stream": "stdout",
        "line": "hit without end",
        "spans": [[4, 15]],
    }


@pytest.mark.usefixtures("written")
async def test_matches_are_given_as_ndjson(daemon: Daemon) -> None:
    answer = await daemon.client.request("GET", "/search?q=hit&limit=2", headers={"Accept": "application/x-ndjson"})
    rows = [json.loads(line) for line in answer.body.splitlines()]
    assert [row.get("line") for row in rows] == ["hit without end", "hit \ufffd\0 here", None]
    assert rows[-1]["complete"] is True


async def test_a_search_is_resumed_after_its_timeout(daemon: Daemon, written: Written) -> None:
    big = await daemon.python("import sys\nfor n in range(600000):\n    sys.stdout.write(f'{n:>30}\\n')")
    await daemon.ended(big)
    page = await search(daemon, "hit err 1", "&timeout=0.001")
    assert (page["matches"], page["complete"]) == ([], False)
    while not page["matches"]:
        page = await search(daemon, "hit err 1", f"&timeout=0.001&cursor={page['next']}")
    assert page["matches"][0]["process_id"] == written.second["id"]


async def test_purged_output_is_not_found(daemon: Daemon, written: Written) -> None:
    await daemon.call("DELETE", f"/processes/{written.second['id']}?purge=true", 204)
    found = {line[0] for line in await every_page(daemon, "hit", "", 1000)}
    assert found == {written.first["id"], written.binary["id"]}


async def test_a_name_narrows_a_search_to_its_runs(daemon: Daemon) -> None:
    """A name is that of every run, and each run has its pid."""
    web = await daemon.sh("echo Hit \u00c9 $$; exec sleep 1000", name="web")
    await daemon.call("GET", f"/processes/{web['id']}/wait?until=output&pattern=Hit", 200)
    again = await daemon.call("POST", f"/processes/{web['id']}/restart", 200)
    await daemon.call("GET", f"/processes/{web['id']}/wait?until=output&pattern=Hit&after=1", 200)
    other = await daemon.sh("echo hit \u00e9 $$")
    await daemon.ended(other)
    pids = [web["pid"], again["pid"], other["pid"]]
    for q, query, expected in (
        ("hit \u00c9 ", "&ignore_case=true", pids),
        ("^hit \u00c9 \\d", "&regex=true&ignore_case=true", pids),
        ("hit", "", pids[2:]),
        ("it", "&name=web", pids[:2]),
        ("hit", "&name=web&ignore_case=true", pids[:2]),
        ("it", "&name=we", []),
    ):
        matches = (await search(daemon, q, f"{query}&order=oldest"))["matches"]
        assert [match["pid"] for match in matches] == expected, (q, query)
        assert [int(match["line"].split()[-1]) for match in matches] == expected


async def test_a_search_continues_after_purged_output(daemon: Daemon) -> None:
    talks = await daemon.sh("while read line; do echo hit $line; done", stdin_mode="pipe")

    async def say(text: str, after: int) -> None:
        await daemon.call("POST", f"/processes/{talks['id']}/stdin", 204, data=text.encode() + b"\n")
        await daemon.call("GET", f"/processes/{talks['id']}/wait?until=output&pattern={text}&after={after}", 200)

    await say("one", 0)
    purged = await daemon.sh("for i in 1 2 3 4 5; do echo hit $i; sleep 0.05; done")
    await daemon.ended(purged)
    page = await search(daemon, "hit", "&order=oldest&limit=6")
    assert len(page["matches"]) == 6
    await daemon.call("DELETE", f"/processes/{purged['id']}?purge=true", 204)
    await eventually(lambda: daemon.sql("SELECT count(*) FROM output_chunk WHERE length(data) > 0") == [(1,)])
    await say("two", 1)
    await say("three", 2)
    behind = await search(daemon, "hit", f"&order=oldest&cursor={page['next']}")
    assert [match["line"] for match in behind["matches"]] == ["hit two", "hit three"]


async def test_malformed_parameters_are_refused(daemon: Daemon) -> None:
    process = await daemon.sh("echo a; echo a")
    await daemon.ended(process)
    cursor = (await search(daemon, "a", "&limit=1"))["next"]
    for q, query, phrase in (
        ("", "", "q must be 1 to 1000 characters long"),
        ("a\nb", "", "q must be part of one line"),
        ("(", "&regex=true", "q is not a valid RE2 regular expression"),
        ("(.{0,50}){0,20}x", "&regex=true", "q is too large: it compiles to"),
        ("a", "&cursor=x", "cursor must be `next` of the previous page"),
        ("b", f"&cursor={cursor}", "cursor belongs to another search"),
        ("a", f"&cursor={cursor}&order=oldest", "cursor belongs to another search"),
        ("a", "&limit=0", "limit must be an integer from 1 to 1000"),
        ("a", "&order=best", "order must be one of newest, oldest"),
        ("a", "&stream=both", "stream must be one of stdout, stderr"),
        ("a", "&timeout=61", "timeout must be a number of seconds from 0.001 to 60"),
        ("a", "&timeout=0", "timeout must be a number of seconds from 0.001 to 60"),
        ("a", "&process=web", "process must be the permanent id of a process"),
        ("a", "&name=", "name must not be empty"),
        ("a", "&ignore_case=1", "ignore_case must be true or false"),
        ("a", f"&cursor={cursor}&ignore_case=true", "cursor belongs to another search"),
        ("a", "&tag=x", "tag must have the form key:value"),
        ("a", "&color=red", "unknown field: color"),
    ):
        assert phrase in (await search(daemon, q, query, 400))["error"], (q, query)
    assert "q is required" in (await daemon.call("GET", "/search", 400))["error"]
    assert (await search(daemon, "a", "&process=01ARZ3NDEKTSV4RRFFQ69G5FAV"))["matches"] == []

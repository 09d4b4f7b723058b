"""Output that retention has deleted, in the answers of a daemon. The test deletes it while no daemon runs."""

import json
from typing import Any

import pytest

from outlast.model.output import Stream
from outlast.model.retention import Rule
from outlast.storage import Change, TrimOutput
from outlast.testing.storage.samples import Output
from tests.support.daemon import Daemon
from tests.support.gaps import leave

LARGE = b"a long line of output, one of so many that they are not merged\n" * 1000


@pytest.fixture
async def trimmed(daemon: Daemon) -> dict[str, Any]:
    """A process that has ended, and printed 1, 2, 3000 long lines, `last` (stderr); up to 2002 is deleted."""
    process = await daemon.sh("echo 1; echo 2")
    ended = await daemon.ended(process)
    now_ms = max(ended["ended_at"], *(ts for (ts,) in daemon.sql("SELECT ts FROM output_lines")))

    def print_and_trim(output: Output) -> list[Change]:
        chunks = [output.chunk(LARGE, ts_ms=now_ms + n) for n in range(3)]
        last = output.chunk(b"last\n", Stream.STDERR, ts_ms=now_ms + 3)
        return [*chunks, last, TrimOutput(process["handle"], 2002, now_ms, Rule.OUTPUT_S)]

    await leave(daemon, process, print_and_trim)
    return ended | {"now_ms": now_ms}


GONE = {"lines": 2002, "bytes": 4 + 2 * len(LARGE)}
GAP = {"to": 2002, "reason": "retention", **GONE}


async def test_a_process_says_what_is_gone(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    output = (await daemon.get(trimmed))["output"]
    assert output["trimmed"] == {"last_seq": 2002, "until": trimmed["now_ms"] + 1, **GONE}
    assert (output["lines"], output["bytes"]) == (1001, len(LARGE) + 5)
    assert (output["first_seq"], output["last_seq"]) == (2003, 3003)


async def test_followers_behind_the_mark_get_a_gap(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    for stream in ("output", "stdout", "stderr"):
        for query, begin in (("", 1), ("?after=400", 401), (f"?since={trimmed['now_ms'] + 1}", 1)):
            gap, *events, eof = [event async for event in daemon.follow(trimmed, stream, query)]
            assert (gap.kind, gap.id, gap.data) == ("gap", 2002, {"from": begin, **GAP})
            assert eof.kind == "eof"
            ids = {"output": range(2003, 3004), "stdout": range(2003, 3003), "stderr": range(3003, 3004)}[stream]
            assert [event.id for event in events] == list(ids)


async def test_followers_beyond_the_mark_get_none(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    for query, first in (
        ("?after=2002", 2003),
        ("?tail=5", 2999),
        ("?tail=1001", 2003),
        (f"?since={trimmed['now_ms'] + 2}", 2003),
    ):
        events = [event async for event in daemon.follow(trimmed, "output", query)]
        assert [event.id for event in events[:-1]] == list(range(first, 3004))


async def test_pages_backwards_end_with_the_gap(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path, accept = f"/processes/{trimmed['id']}/output", {"Accept": "application/x-ndjson"}

    async def page(query: str) -> list[int | dict[str, Any]]:
        answer = await daemon.client.request("GET", f"{path}?{query}", headers=accept)
        return [row.get("gap", row["id"]) for row in map(json.loads, answer.body.splitlines())]

    assert await page("before=2010&limit=3") == [2007, 2008, 2009]
    assert await page("before=2005&limit=9") == [{"from": 1, **GAP}, 2003, 2004]
    assert await page("before=1000&limit=9&grep=long") == [{"from": 1, **GAP, "to": 999}]


async def test_a_follower_of_several_gets_a_gap(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path = f"/output/follow?process={trimmed['id']}&tail=5000"
    events = [event async for event in daemon.client.follow(path)]
    gap = next(event for event in events if event.kind == "gap")
    assert gap.data | {"from": 1, "seq": 2002, **GAP} == gap.data
    (again,) = [
        event.data["seq"]
        async for event in daemon.client.follow(path, headers={"Last-Event-ID": f"{trimmed['handle']}:3002"})
        if event.kind in ("output", "gap")
    ]
    assert again == 3003


async def test_a_longer_tail_gets_a_gap(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    gap, *events, _ = [event async for event in daemon.follow(trimmed, "output", "?tail=1002")]
    assert (gap.kind, gap.data["from"], len(events)) == ("gap", 1, 1001)


async def test_json_and_bytes_say_it_in_a_header(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path = f"/processes/{trimmed['id']}/output"
    said = "lines={lines},bytes={bytes}".format(**GONE)
    for accept in ("application/json", "application/octet-stream"):
        answer = await daemon.client.request("GET", path, headers={"Accept": accept})
        assert answer.headers["Outlast-Trimmed"] == said
        if accept == "application/json":
            assert json.loads(answer.body)["line_count"] == 1001
        else:
            assert answer.body == LARGE + b"last\n"
            assert answer.headers["Content-Length"] == str(len(LARGE) + 5)
        for query in ("after=2002", "tail=3"):
            answer = await daemon.client.request("GET", f"{path}?{query}", headers={"Accept": accept})
            assert "Outlast-Trimmed" not in answer.headers


async def test_ndjson_has_the_gap(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path, accept = f"/processes/{trimmed['id']}/stderr", {"Accept": "application/x-ndjson"}
    answer = await daemon.client.request("GET", path, headers=accept)
    gap, line = map(json.loads, answer.body.splitlines())
    said = {"id": 2002, "gap": {"from": 1, **GAP}, "timestamp": trimmed["now_ms"] + 1, "stream": "both"}
    assert (gap, line["line"]) == (said, "last\n")


async def test_sql_has_a_row(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    columns = "seq, last_seq, stream, reason, missing_bytes, missing_lines"
    rows = daemon.sql(f"SELECT {columns} FROM output_gaps WHERE process_id = ?", trimmed["id"])  # noqa: S608
    assert rows == [(1, 2002, "both", "retention", GONE["bytes"], GONE["lines"])]


async def test_a_search_goes_on_and_says_that_it_is_not_complete(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    for query, is_complete in (
        ("q=last", False),
        (f"q=last&process={trimmed['id']}", False),
        (f"q=last&since={trimmed['now_ms'] + 2}", True),
    ):
        page = await daemon.call("GET", f"/search?{query}", 200)
        assert [match["seq"] for match in page["matches"]] == [3003]
        assert (page["next"], page["complete"]) == (None, is_complete)


async def test_a_wait_finds_what_is_left(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path = f"/processes/{trimmed['id']}/wait?until=output&pattern=last&timeout=10"
    assert (await daemon.call("GET", path, 200))["seq"] == 3003


async def test_a_histogram_says_what_it_does_not_count(daemon: Daemon, trimmed: dict[str, Any]) -> None:
    path = f"/processes/{trimmed['id']}/output/histogram?buckets=1"
    answer = await daemon.client.request("GET", path)
    assert answer.json["buckets"][0][1:] == [1001, 1]
    assert answer.headers["Outlast-Trimmed"] == f"lines=2002,bytes={GONE['bytes']}"
    later = await daemon.client.request("GET", f"{path}&since={trimmed['now_ms'] + 2}")
    assert (later.json["buckets"][0][1:], "Outlast-Trimmed" in later.headers) == ([1001, 1], False)

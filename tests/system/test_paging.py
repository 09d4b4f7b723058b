"""Views of stored output over HTTP: paging backwards, expressions that lines match, counts by time."""

import asyncio
import json
from typing import Any

from tests.support.daemon import Daemon

NDJSON = {"Accept": "application/x-ndjson"}


async def events(daemon: Daemon, process: dict[str, Any], query: str) -> list[dict[str, Any]]:
    answer = await daemon.client.request("GET", f"/processes/{process['id']}/output?{query}", headers=NDJSON)
    assert answer.status == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_pages_are_read_backwards(daemon: Daemon) -> None:
    process = await daemon.sh("seq 1 5000; seq 5001 5010 >&2; seq 5011 6000")
    await daemon.ended(process)
    found: list[dict[str, Any]] = []
    while page := await events(daemon, process, f"limit=700&before={found[0]['id'] if found else 10**9}"):
        assert len(page) <= 700
        found = page + found
    assert [event["id"] for event in found] == list(range(1, 6001))
    assert [int(event["line"]) for event in found if event["stream"] == "stderr"] == list(range(5001, 5011))
    assert await daemon.lines(process, query="?before=11&limit=2") == ["9", "10"]
    assert await daemon.lines(process, query="?before=4") == ["1", "2", "3"]
    assert await daemon.lines(process, query="?before=1&limit=5") == []
    assert await daemon.lines(process, "stderr", "?before=9999&limit=2") == ["5009", "5010"]
    assert await daemon.raw(process, query="?before=4&limit=2") == b"2\n3\n"
    assert await daemon.lines(process, query="?before=5000&limit=3&grep=99") == [
        "4997",
        "4998",
        "4999",
    ]


async def test_an_expression_finds_lines_and_where_they_match(daemon: Daemon) -> None:
    process = await daemon.sh(r"printf 'a1 b22\nnone\n\303\251\303\251 77\nA1\n\377 5\n'")
    await daemon.ended(process)
    assert await daemon.lines(process, query="?grep=[0-9]%2B$&regex=true") == ["a1 b22", "éé 77", "A1", "\ufffd 5"]
    assert await daemon.lines(process, query="?grep=%5EA&regex=true") == ["A1"]
    assert await daemon.lines(process, query="?grep=%5EA&regex=true&ignore_case=true") == ["a1 b22", "A1"]
    assert await daemon.lines(process, query="?grep=a1&ignore_case=true&before=4") == ["a1 b22"]
    assert await daemon.raw(process, query="?grep=%5EA&regex=true") == b"A1\n"
    found = await events(daemon, process, "grep=[0-9]%2B&regex=true")
    assert [event["spans"] for event in found] == [[[1, 2], [4, 6]], [[3, 5]], [[1, 2]], [[2, 3]]]
    for event in found:
        assert all(event["line"][start:end].isdigit() for start, end in event["spans"])
    assert [event["spans"] for event in await events(daemon, process, "grep=7")] == [[[3, 4], [4, 5]]]
    assert all("spans" not in event for event in await events(daemon, process, ""))
    backwards = await events(daemon, process, "grep=[0-9]%2B&regex=true&before=5&limit=2")
    assert backwards == found[1:3]
    searched = await daemon.call("GET", "/search?q=[0-9]%2B&regex=true&order=oldest", 200)
    assert [match["spans"] for match in searched["matches"]] == [event["spans"] for event in found]


async def test_a_slow_expression_delays_no_other_call(daemon: Daemon) -> None:
    process = await daemon.python("for _ in range(8): print('a' * 500_000)\nprint('b')")
    await daemon.ended(process)
    slow = "grep=(a%7Cb)*a[ab]%7B500%7Dc&regex=true"
    searching = asyncio.create_task(events(daemon, process, slow))
    await daemon.get(process)
    for _ in range(3):
        await daemon.get(process)
        assert not searching.done(), "the expression is too fast, or was matched before the call was answered"
    assert await searching == []


async def test_lines_are_counted_by_time(daemon: Daemon) -> None:
    process = await daemon.sh("seq 1 100; sleep 0.1; seq 1 10 >&2")
    await daemon.ended(process)
    path = f"/processes/@{process['handle']}/output/histogram"
    found = await daemon.call("GET", f"{path}?buckets=20", 200)
    begins = [begin for begin, _, _ in found["buckets"]]
    assert 1 < len(begins) <= 20
    assert begins == list(range(begins[0], begins[-1] + 1, found["bucket_ms"]))
    assert sum(lines for _, lines, _ in found["buckets"]) == 110
    assert sum(lines for _, _, lines in found["buckets"]) == found["buckets"][-1][2] == 10
    later = await daemon.call("GET", f"{path}?since={begins[-1]}", 200)
    assert sum(lines for _, lines, _ in later["buckets"]) == 10
    silent = await daemon.run("true")
    await daemon.ended(silent)
    assert (await daemon.call("GET", f"/processes/{silent['id']}/output/histogram", 200))["buckets"] == []

"""Gaps in the answers of a daemon. The test puts them into the store while no daemon runs."""

import json
from typing import Any

import pytest

from outlast.model.output import GapReason, Stream
from tests.support.daemon import Daemon
from tests.support.gaps import leave


@pytest.fixture
async def holed(daemon: Daemon) -> dict[str, Any]:
    """A process that has ended, with the output 1, 2 and then a gap, 4 (stderr), a gap of stderr, 6, 7."""
    process = await daemon.sh("echo 1; echo 2")
    ended = await daemon.ended(process)
    # What it printed may be read after its end is seen.
    now_ms = max(ended["ended_at"], *(ts for (ts,) in daemon.sql("SELECT ts FROM output_lines")))
    await leave(
        daemon,
        process,
        lambda output: [
            output.gap(1000, ts_ms=now_ms + 1),
            output.chunk(b"4\n", Stream.STDERR, ts_ms=now_ms + 2),
            output.gap(0, Stream.STDERR, reason=GapReason.STORE_REPLACED, ts_ms=now_ms + 3),
            output.chunk(b"6\n7\n", ts_ms=now_ms + 4),
        ],
    )
    return ended | {"now_ms": now_ms}


async def followed(daemon: Daemon, process: dict[str, Any], stream: str = "output", query: str = "") -> list[str]:
    events = [event async for event in daemon.follow(process, stream, query)]
    assert events.pop().kind == "eof"
    for event in events:
        if event.kind == "gap":
            assert event.data == {
                "from": event.id,
                "to": event.id,
                "reason": "store_replaced" if event.id == 5 else "lost",
            }
        else:
            assert (event.kind, event.data["line"]) == ("output", f"{event.id}\n")
    return [f"{event.id}{event.kind[0]}" for event in events]


async def test_gaps_are_followed(daemon: Daemon, holed: dict[str, Any]) -> None:
    now_ms = holed["now_ms"]
    assert await followed(daemon, holed) == ["1o", "2o", "3g", "4o", "5g", "6o", "7o"]
    assert await followed(daemon, holed, "stdout") == ["1o", "2o", "3g", "6o", "7o"]
    assert await followed(daemon, holed, "stderr") == ["4o", "5g"]
    for query, expected in {
        "?after=2": ["3g", "4o", "5g", "6o", "7o"],
        "?after=3": ["4o", "5g", "6o", "7o"],
        "?tail=2": ["6o", "7o"],
        "?tail=3": ["4o", "5g", "6o", "7o"],
        "?tail=4": ["2o", "3g", "4o", "5g", "6o", "7o"],
        f"?since={now_ms + 1}": ["3g", "4o", "5g", "6o", "7o"],
        f"?since={now_ms + 3}": ["5g", "6o", "7o"],
        f"?until={now_ms + 1}": ["1o", "2o", "3g"],
    }.items():
        assert await followed(daemon, holed, query=query) == expected, query
    assert await followed(daemon, holed, "stderr", "?tail=1") == ["4o", "5g"]


async def test_gaps_in_the_forms_of_stored_output(daemon: Daemon, holed: dict[str, Any]) -> None:
    assert await daemon.lines(holed) == ["1", "2", "4", "6", "7"]
    assert await daemon.lines(holed, query="?tail=3&limit=2") == ["4", "6"]
    assert await daemon.raw(holed) == b"1\n2\n4\n6\n7\n"
    url = f"{daemon.url}/api/v1/processes/{holed['id']}/output?grep=7"
    async with daemon.session.get(url, headers={"Accept": "application/x-ndjson"}) as response:
        rows = [json.loads(line) async for line in response.content]
    now_ms = holed["now_ms"]
    assert rows == [
        {"id": 3, "gap": {"from": 3, "to": 3, "reason": "lost"}, "timestamp": now_ms + 1, "stream": "stdout"},
        {"id": 5, "gap": {"from": 5, "to": 5, "reason": "store_replaced"}, "timestamp": now_ms + 3, "stream": "stderr"},
        {"id": 7, "line": "7\n", "timestamp": now_ms + 4, "stream": "stdout", "spans": [[0, 1]]},
    ]
    seen = await daemon.get(holed)
    assert seen["output"] == {
        "lines": 5,
        "bytes": 10,
        "first_seq": 1,
        "last_seq": 7,
        "last_at": now_ms + 4,
        "trimmed": None,
    }
    assert daemon.sql("SELECT lines, bytes FROM processes") == [(5, 10)]
    assert daemon.sql("SELECT seq, line FROM output_lines ORDER BY seq") == [(n, str(n)) for n in (1, 2, 4, 6, 7)]
    assert daemon.sql("SELECT seq, stream, reason, missing_bytes FROM output_gaps ORDER BY seq") == [
        (3, "stdout", "lost", 1000),
        (5, "stderr", "store_replaced", 0),
    ]


async def test_output_continues_after_a_gap(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"1\n")
    assert (await anext(daemon.follow(process))).id == 1
    await leave(daemon, process, lambda output: [output.gap(0)])
    follower = daemon.follow(process)
    assert [(await anext(follower)).kind for _ in range(2)] == ["output", "gap"]
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"3\n")
    assert (await anext(follower)).data["line"] == "3\n"
    await follower.aclose()
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    resumed = [event.id async for event in daemon.follow(process, **{"Last-Event-ID": "2"})]
    assert resumed == [3, None]

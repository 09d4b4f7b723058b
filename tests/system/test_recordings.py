"""Recordings of terminals: a player of one shows the screen that the terminal had."""

import json
from typing import Any

import pyte
import pytest

from tests.support.daemon import Daemon
from tests.support.terminal import attach, create
from tests.support.waiting import eventually

SCRIPT = "printf 'zw\\303'; sleep 0.3; printf '\\266lf\\n'; read x; printf '\\033[2J\\033[Hafter'; read x; exit 3"


async def recording(daemon: Daemon, session: dict[str, Any], query: str = "") -> list[Any]:
    url = f"{daemon.url}/api/v1/processes/{session['session_id']}/recording{query}"
    async with daemon.session.get(url) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/x-asciicast"
        return [json.loads(line) for line in (await answer.text()).splitlines()]


async def recorded_session(daemon: Daemon) -> dict[str, Any]:
    """Make a terminal whose program has ended, and whose size was changed while it ran."""
    session = await create(daemon, "sh", "-c", SCRIPT, rows=10, cols=40)
    async with attach(daemon, session) as client:
        await client.shows("zwölf")
        await client.resize(cols=50, rows=12)
        await eventually(lambda: daemon.sql("SELECT * FROM terminal_size"))
        await client.type("\n")
        await client.shows("after")
        await client.type("\n")
        assert await client.ended() == (3, 1000)
    return session


async def test_a_recording_has_output_sizes_and_the_end(daemon: Daemon) -> None:
    session = await recorded_session(daemon)
    await daemon.kill()
    await daemon.start()
    header, *events = await recording(daemon, session)
    started = (await daemon.get({"id": session["session_id"]}))["started_at"]
    assert header == {
        "version": 3,
        "term": {"cols": 40, "rows": 10, "type": "xterm-256color"},
        "timestamp": started // 1000,
    }
    assert all(interval >= 0 for interval, _, _ in events)
    assert "".join(data for _, kind, data in events if kind == "o") == "zwölf\r\n\r\n\x1b[2J\x1b[Hafter\r\n"
    kinds = [kind for _, kind, _ in events]
    assert kinds[-1] == "x"
    assert events[-1][2] == "3"
    size = kinds.index("r")
    assert events[size][2] == "50x12"
    assert "zwölf" in "".join(data for _, _, data in events[:size])
    assert "after" in "".join(data for _, _, data in events[size:])
    ended = await daemon.get({"id": session["session_id"]})
    assert abs(sum(interval for interval, _, _ in events) * 1000 - (ended["ended_at"] - started)) <= 20


async def test_a_player_shows_the_screen_that_the_terminal_had(daemon: Daemon) -> None:
    session = await recorded_session(daemon)
    header, *events = await recording(daemon, session)
    screen = pyte.Screen(header["term"]["cols"], header["term"]["rows"])
    player = pyte.Stream(screen)
    for _, kind, data in events:
        if kind == "o":
            player.feed(data)
        elif kind == "r":
            cols, rows = map(int, data.split("x"))
            screen.resize(rows, cols)
    async with attach(daemon, session) as client:
        await client.ended()
        assert [line.rstrip() for line in screen.display] == client.lines[: screen.lines]


async def test_the_older_version_counts_times_from_the_beginning(daemon: Daemon) -> None:
    session = await recorded_session(daemon)
    header, *events = await recording(daemon, session, "?version=2")
    assert (header["version"], header["width"], header["height"]) == (2, 40, 10)
    assert header["env"] == {"TERM": "xterm-256color"}
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert {kind for _, kind, _ in events} == {"o", "r"}


async def test_the_last_size_is_shown_after_the_end(daemon: Daemon) -> None:
    session = await recorded_session(daemon)
    seen = await daemon.call("GET", f"/pty/{session['session_id']}", 200)
    assert (seen["rows"], seen["cols"]) == (12, 50)


@pytest.mark.parametrize("query", ["?version=1", "?version=4", "?version=x"])
async def test_other_versions_are_refused(daemon: Daemon, query: str) -> None:
    session = await create(daemon, "true")
    await daemon.call("GET", f"/processes/{session['session_id']}/recording{query}", 400)


async def test_a_process_without_a_terminal_has_no_recording(daemon: Daemon) -> None:
    process = await daemon.run("true")
    refused = await daemon.call("GET", f"/processes/{process['id']}/recording", 404)
    assert "no terminal" in refused["error"]

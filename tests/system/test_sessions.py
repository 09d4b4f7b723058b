"""Sessions over HTTP, as the clients of terminals know them."""

import asyncio
import signal
import time
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, wait_until_gone
from tests.support.terminal import attach, create
from tests.support.waiting import eventually


async def show(daemon: Daemon, session: dict[str, Any], status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = await daemon.call("GET", f"/pty/{session['session_id']}", status)
    return found


async def listed(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await daemon.call("GET", "/pty", 200))["sessions"]
    return found


async def wait_until_ended(daemon: Daemon, session: dict[str, Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        seen = await show(daemon, session)
        return None if seen["is_alive"] else seen

    return await eventually(look)


async def test_a_session_is_shown_without_its_token(daemon: Daemon) -> None:
    before = time.time_ns() // 1_000_000
    session = await create(daemon, "sh", "-c", "sleep 1000", rows=30, cols=100)
    assert set(session) == {"session_id", "token"}
    seen = await show(daemon, session)
    assert is_running(seen["pid"])
    assert before <= seen["created_at"] <= time.time_ns() // 1_000_000
    assert seen == {
        "session_id": session["session_id"],
        "pid": seen["pid"],
        "command": "sh",
        "args": ["-c", "sleep 1000"],
        "rows": 30,
        "cols": 100,
        "created_at": seen["created_at"],
        "is_alive": True,
        "ended_at": None,
        "exit_code": None,
    }
    assert await listed(daemon) == [seen]


async def test_a_token_is_stored_nowhere(daemon: Daemon) -> None:
    session = await create(daemon, "sleep", "1000")
    async with attach(daemon, session, query=f"?token={session['token']}"):
        pass
    await daemon.stop()
    for path in (*daemon.state_dir.rglob("*"), daemon.state_dir.parent / "daemon.log"):
        if path.is_file():
            assert session["token"].encode() not in path.read_bytes(), path


async def test_a_session_is_a_process(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "echo hello; read x; echo $x")
    process = {"id": session["session_id"]}
    await daemon.wait_for_lines(process, 1)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"typed\n")
    ended = await daemon.ended(process)
    assert (ended["exit_code"], ended["tty"]) == (0, {"rows": 24, "cols": 80})
    assert await daemon.raw(process) == b"hello\r\ntyped\r\ntyped\r\n"


async def test_any_process_may_have_a_terminal(daemon: Daemon) -> None:
    process = await daemon.run("sh", "-c", "stty size; echo $TERM; tty", tty={"rows": 7})
    await daemon.ended(process)
    size, term, name = (await daemon.raw(process)).split(b"\r\n")[:3]
    assert (size, term) == (b"7 80", b"xterm-256color")
    assert name.startswith(b"/dev/pts/")
    async with attach(daemon, {"session_id": process["id"]}) as client:
        assert await client.ended() == (0, 1000)
        assert client.lines[0] == "7 80"


async def test_a_process_without_a_terminal_is_no_session(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    assert process["tty"] is None
    assert await listed(daemon) == []
    await show(daemon, {"session_id": process["id"]}, 404)


@pytest.mark.parametrize("mode", [{"stdin_mode": "closed"}, {"stdout_mode": "discard"}, {"stderr_mode": "discard"}])
async def test_a_terminal_takes_the_place_of_all_standard_streams(daemon: Daemon, mode: dict[str, str]) -> None:
    body = {"command": "true", "tty": {}, **mode}
    refused = await daemon.call("POST", "/processes", 400, body)
    assert next(iter(mode)) in refused["error"]


async def test_a_variable_of_the_request_names_the_kind_of_terminal(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "echo $TERM", env={"TERM": "vt100"})
    await wait_until_ended(daemon, session)
    assert await daemon.raw({"id": session["session_id"]}) == b"vt100\r\n"


@pytest.mark.parametrize(
    ("asked", "got"), [((0, 0), (1, 1)), ((70_000, 70_000), (500, 1000)), ((500, 1000), (500, 1000))]
)
async def test_sizes_are_cut_and_never_refused(daemon: Daemon, asked: tuple[int, int], got: tuple[int, int]) -> None:
    rows, cols = asked
    session = await create(daemon, "sleep", "1000", rows=rows, cols=cols)
    seen = await show(daemon, session)
    assert (seen["rows"], seen["cols"]) == got
    await daemon.call("POST", f"/pty/{session['session_id']}/resize", 204, {"rows": 33, "cols": 44})
    await daemon.call("POST", f"/pty/{session['session_id']}/resize", 204, {"rows": rows, "cols": cols})
    seen = await show(daemon, session)
    assert (seen["rows"], seen["cols"]) == got


async def test_a_size_outlives_the_daemon(daemon: Daemon) -> None:
    session = await create(daemon, "sleep", "1000")
    await daemon.call("POST", f"/pty/{session['session_id']}/resize", 204, {"rows": 33, "cols": 44})
    await daemon.kill()
    await daemon.start()
    seen = await show(daemon, session)
    assert (seen["rows"], seen["cols"]) == (33, 44)


async def test_an_ended_session_is_shown_for_a_while(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "exit 5")
    seen = await wait_until_ended(daemon, session)
    assert seen["exit_code"] == 5
    assert seen["ended_at"] >= seen["created_at"]
    assert await listed(daemon) == [seen]
    await daemon.kill()
    await daemon.start()
    assert await show(daemon, session) == seen
    assert await listed(daemon) == [seen]
    await daemon.call("POST", f"/pty/{session['session_id']}/resize", 204, {"rows": 33, "cols": 44})
    async with attach(daemon, session) as client:
        assert await client.ended() == (5, 1000)


async def test_a_signal_is_shown_as_a_negative_number(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "kill -9 $$")
    assert (await wait_until_ended(daemon, session))["exit_code"] == -signal.SIGKILL


async def test_delete_hangs_up_and_forgets(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "trap 'echo bye; exit 4' HUP; echo ready; while :; do sleep 0.01; done")
    async with attach(daemon, session) as client:
        await client.shows("ready")
        await daemon.call("DELETE", f"/pty/{session['session_id']}", 204)
        assert await client.ended() == (4, 1000)
        assert "bye" in client.lines
    await show(daemon, session, 404)
    await daemon.call("DELETE", f"/pty/{session['session_id']}", 404)
    assert await listed(daemon) == []
    assert (await daemon.get({"id": session["session_id"]}))["exit_code"] == 4


async def test_delete_of_an_ended_session_forgets_it(daemon: Daemon) -> None:
    session = await create(daemon, "true")
    await wait_until_ended(daemon, session)
    await daemon.call("DELETE", f"/pty/{session['session_id']}", 204)
    await show(daemon, session, 404)


async def test_delete_reaches_children_in_sessions_of_their_own(daemon: Daemon) -> None:
    script = "setsid sh -c 'echo pid $$; sleep 1000' & wait"
    session = await create(daemon, "sh", "-c", script)
    await daemon.wait_for_lines({"id": session["session_id"]}, 1)
    child = int((await daemon.raw({"id": session["session_id"]})).split()[1])
    assert is_running(child)
    await daemon.call("DELETE", f"/pty/{session['session_id']}", 204)
    await wait_until_gone(child)


@pytest.mark.slow
async def test_delete_kills_what_passes_over_a_hang_up(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "trap '' HUP; echo ready; while :; do sleep 0.01; done")
    async with attach(daemon, session) as client:
        await client.shows("ready")
        await daemon.call("DELETE", f"/pty/{session['session_id']}", 204)
        assert (await show(daemon, session))["is_alive"]
        assert await client.ended() == (-signal.SIGKILL, 1000)
    await show(daemon, session, 404)


@pytest.mark.slow
async def test_what_delete_promises_is_done_without_the_daemon(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "trap '' HUP; echo ready; while :; do sleep 0.01; done")
    await daemon.wait_for_lines({"id": session["session_id"]}, 1)
    pid = (await show(daemon, session))["pid"]
    await daemon.call("DELETE", f"/pty/{session['session_id']}", 204)
    await daemon.kill()
    await wait_until_gone(pid)


async def test_unknown_sessions_are_told_as_such(daemon: Daemon) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/resize", {"rows": 1, "cols": 1}),
    ):
        for name in ("no-such", "%00", "..", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "{x}"):
            refused = await daemon.call(method, f"/pty/{name}{path}", 404, body)
            assert refused["code"] == "NOT_FOUND"


async def test_a_program_that_cannot_start_leaves_no_session(daemon: Daemon) -> None:
    refused = await daemon.call("POST", "/pty", 422, {"command": "no-such-command"})
    assert refused["code"] == "SPAWN_FAILED"
    assert await listed(daemon) == []


async def test_the_input_of_a_terminal_has_no_end(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    refused = await daemon.call("POST", f"/processes/{session['session_id']}/stdin/close", 400)
    assert refused["code"] == "STDIN_NOT_WRITABLE"


async def test_many_sessions_are_listed_in_the_order_of_their_starts(daemon: Daemon) -> None:
    sessions = await asyncio.gather(*(create(daemon, "sleep", "1000") for _ in range(20)))
    assert len({session["session_id"] for session in sessions}) == 20
    handles = [(await daemon.get({"id": seen["session_id"]}))["handle"] for seen in await listed(daemon)]
    assert handles == sorted(handles)
    assert len(handles) == 20

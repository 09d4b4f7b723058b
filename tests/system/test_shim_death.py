"""The shim may be killed, too: the daemon starts another and hands over what runs."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from outlast.failpoints import VARIABLE
from tests.support.daemon import Daemon, is_running, left_over, outlast, shim_pid
from tests.support.health import wait_until_healthy
from tests.support.programs import COUNTER
from tests.support.waiting import eventually

FLOOD = (
    "import sys\nfor i in range(200):\n"
    "    sys.stdout.write(''.join(f'{j:09d} {\"x\" * 85}\\n' for j in range(i * 1000, i * 1000 + 1000)))"
)


async def kill_shim(daemon: Daemon) -> int:
    """SIGKILL the shim and wait until another has taken over; return its pid."""
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))

    def replaced() -> int | None:
        return shim_pid(daemon.state_dir)

    pid = await eventually(replaced)
    await wait_until_healthy(daemon)
    return int(pid)


async def test_a_shim_death_loses_no_process_or_line(daemon: Daemon) -> None:
    counter = await daemon.python(COUNTER)
    echo = await daemon.run("cat", stdin_mode="pipe")
    for kill in range(3):
        await daemon.wait_for_lines(counter, 50 * (kill + 1))
        await kill_shim(daemon)
        await daemon.call("POST", f"/processes/{echo['id']}/stdin", 204, data=b"%d\n" % kill)
    await daemon.call("POST", f"/processes/{echo['id']}/stdin/close", 204)
    assert (await daemon.ended(echo))["exit_code"] == 0
    assert await daemon.raw(echo) == b"0\n1\n2\n"
    before = (await daemon.get(counter))["output"]["lines"]
    await daemon.wait_for_lines(counter, before + 50)
    await daemon.call("POST", f"/processes/{counter['id']}/signal", 200, {"signal": "SIGTERM"})
    ended = await daemon.ended(counter)
    assert (ended["status"], ended["signal"], ended["reason"]) == ("signaled", signal.SIGTERM, "signaled")
    lines = await daemon.lines(counter)
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


async def test_a_flood_survives_kills_of_the_shim(daemon: Daemon) -> None:
    process = await daemon.python(FLOOD)
    for count in (20_000, 80_000, 140_000):
        await daemon.wait_for_lines(process, count)
        await kill_shim(daemon)
    ended = await daemon.ended(process)
    assert ended["exit_code"] == 0
    assert await daemon.raw(process) == b"".join(b"%09d %s\n" % (i, b"x" * 85) for i in range(200_000))


async def test_a_follower_does_not_notice_a_shim_death(daemon: Daemon) -> None:
    process = await daemon.sh("for i in $(seq 400); do echo out $i; echo err $i >&2; sleep 0.005; done")

    async def follow() -> list[tuple[int | None, str, str]]:
        return [(e.id, e.data.get("stream", ""), e.data.get("line", "")) for e in await daemon.drained(process)]

    following = asyncio.create_task(follow())
    for kill in range(2):
        await daemon.wait_for_lines(process, 100 * (kill + 1))
        await kill_shim(daemon)
    events = await following
    assert [event[0] for event in events[:-1]] == list(range(1, 801))
    for stream, word in (("stdout", "out"), ("stderr", "err")):
        assert [line for _, name, line in events if name == stream] == [f"{word} {i}\n" for i in range(1, 401)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 42", (42, None)), ("kill -USR1 $$", (None, signal.SIGUSR1)), ("exit 0", (0, None))],
)
async def test_exit_codes_are_reported_by_the_next_shim(
    daemon: Daemon, script: str, expected: tuple[int | None, int | None]
) -> None:
    process = await daemon.sh(f"read x; {script}", stdin_mode="pipe")
    await kill_shim(daemon)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    ended = await daemon.ended(process)
    assert (ended["exit_code"], ended["signal"]) == expected


async def test_an_end_while_there_was_no_shim_is_known(daemon: Daemon) -> None:
    process = await daemon.sh("read x; echo bye; exit 7", stdin_mode="pipe")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(daemon.pid, signal.SIGSTOP)  # the daemon must not be quicker than the end of the process
    try:
        os.kill(shim, signal.SIGKILL)
        Path(f"/proc/{process['pid']}/fd/0").write_text("\n")
        await eventually(lambda: not is_running(process["pid"]))
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    ended = await daemon.ended(process)
    assert (ended["exit_code"], ended["reason"]) == (7, "exited")
    assert await daemon.raw(process) == b"bye\n"


async def test_a_process_survives_a_daemon_death_after_a_shim_death(daemon: Daemon) -> None:
    """The new shim keeps what it has taken over like what it has started."""
    process = await daemon.python(COUNTER)
    await daemon.wait_for_lines(process, 20)
    await kill_shim(daemon)
    await daemon.kill()
    await daemon.start()
    before = (await daemon.get(process))["output"]["lines"]
    await daemon.wait_for_lines(process, before + 20)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    ended = await daemon.ended(process)
    assert (ended["signal"], ended["reason"]) == (signal.SIGKILL, "signaled")
    lines = await daemon.lines(process)
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


async def test_everything_that_a_process_started_is_killed(daemon: Daemon) -> None:
    process = await daemon.sh("setsid sleep 1000 & echo $!; sleep 1000")
    grandchild = int((await anext(daemon.follow(process))).data["line"])
    await kill_shim(daemon)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    await eventually(lambda: not is_running(grandchild))


@pytest.mark.parametrize(
    "point",
    ["shim-forked:3", "shim-opened:3", "shim-read", "shim-read:2", "shim-read:14", "shim-reaped", "shim-reaped:4"],
)
async def test_a_shim_death_at_any_failpoint_loses_nothing(state_dir: Path, tmp_path: Path, point: str) -> None:
    """A start during which it dies has happened or not; what was there before goes on; nothing runs unrecorded."""
    daemon = Daemon(state_dir, **{VARIABLE: point})
    ran = tmp_path / "ran"
    ran.mkdir()
    try:
        await daemon.start()
        answers: list[dict[str, Any] | None] = []
        for i in range(8):
            body = {"command": "sh", "args": ["-c", f"touch {ran}/{i}; echo {i}; echo {i} >&2; exit {i}"]}
            url = f"{daemon.url}/api/v1/processes"
            async with daemon.session.post(url, json=body) as response:
                answers.append(await response.json() if response.status == 201 else None)
                assert response.status in {201, 503}, await response.text()
            await wait_until_healthy(daemon)
        listed = {p["id"] for p in (await daemon.call("GET", "/processes", 200))["processes"]}
        assert listed == {answer["id"] for answer in answers if answer is not None}
        for i, answer in enumerate(answers):
            if answer is None:
                assert not (ran / str(i)).exists()
            else:
                assert (await daemon.ended(answer))["exit_code"] == i
                assert await daemon.raw(answer, "stdout") == await daemon.raw(answer, "stderr") == b"%d\n" % i
        assert "was lost" in daemon.log, "the shim was to die"
    finally:
        await daemon.end_everything()


async def test_a_start_that_fails_while_the_shim_dies_has_failed(state_dir: Path) -> None:
    daemon = Daemon(state_dir, **{VARIABLE: "shim-opened"})
    try:
        await daemon.start()
        error = await daemon.call("POST", "/processes", 422, {"command": "/no/such/program"})
        assert error["code"] == "SPAWN_FAILED"
        assert "was lost" in daemon.log, "the shim was to die"
        assert (await daemon.call("GET", "/processes", 200))["processes"] == []
        await wait_until_healthy(daemon)
        assert (await daemon.ended(await daemon.sh("exit 3")))["exit_code"] == 3
    finally:
        await daemon.end_everything()


@pytest.mark.parametrize("point", ["start-asked", "start-forked", "start-recorded", "before-commit"])
async def test_an_interrupted_start_has_not_executed(state_dir: Path, tmp_path: Path, point: str) -> None:
    """Nothing runs that nobody knows of: the gate of a start opens when it is recorded, and not before."""
    daemon = Daemon(state_dir, **{VARIABLE: point})
    try:
        await daemon.start()
        ran = tmp_path / "ran"
        body = {"command": "sh", "args": ["-c", f"echo $$ >>{ran}; sleep 1000"], "idempotency_key": "once"}
        with contextlib.suppress(aiohttp.ClientError):
            async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body):
                pass
        shim = shim_pid(state_dir)
        assert shim is not None
        os.kill(shim, signal.SIGKILL)
        await eventually(lambda: not is_running(shim))
        await daemon.kill()
        assert not ran.exists()
        daemon.environment.pop(VARIABLE)
        await daemon.start()
        async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
            process = await response.json()
            assert response.status == (200 if point == "start-recorded" else 201), process
        if point == "start-recorded":
            assert process["reason"] == "lost"
            assert not ran.exists()
        else:
            pid = await eventually(lambda: ran.exists() and ran.read_text())
            assert pid == f"{process['pid']}\n"
    finally:
        await daemon.end_everything()


async def test_down_ends_processes_without_daemon_or_shim(daemon: Daemon) -> None:
    process = await daemon.sh("setsid sleep 1000 & sleep 1000")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    code, _output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert code == 0
    assert not is_running(process["pid"])
    assert left_over(daemon.state_dir) == []
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, f"nothing runs for {daemon.state_dir}\n")


async def test_a_process_without_daemon_or_shim_is_lost(daemon: Daemon) -> None:
    """Nobody reads its output any more, and nobody could tell how it ends: it is not left running unwatched."""
    process = await daemon.sh("setsid sleep 1000 & sleep 1000")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    assert is_running(process["pid"])
    await daemon.start()
    lost = await daemon.get(process)
    assert (lost["status"], lost["reason"], lost["exit_code"], lost["signal"]) == ("exited", "lost", None, None)
    await eventually(lambda: not is_running(process["pid"]))

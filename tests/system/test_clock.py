"""The time of day is set back or forward by an hour: no wait and no bound becomes shorter or longer."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import eventually

HOUR_S = 3600
HALF_HOUR_MS = 30 * 60 * 1000
FORWARD = pytest.mark.parametrize("shift_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
# Daemon and shim read the time of day with what the file says on top. Delays are nearly as long as they may be.
SET_BY_A_FILE = """
import pathlib, random, time
FILE = pathlib.Path({path!r})
real_ns = time.time_ns

def shift_ns():
    return int(FILE.read_text()) * 10**9 if FILE.exists() else 0

time.time_ns = lambda: real_ns() + shift_ns()
time.time = lambda: time.time_ns() / 10**9
random.random = lambda: 0.9
"""


@pytest.fixture
async def daemon(state_dir: Path) -> AsyncIterator[Daemon]:
    running = patched_daemon(state_dir, SET_BY_A_FILE.format(path=str(state_dir.parent / "shift")))
    try:
        await running.start()
        yield running
    finally:
        await running.end_everything()


def set_clock(daemon: Daemon, shift_s: int) -> None:
    file = daemon.state_dir.parent / "shift"
    written = file.with_suffix(".new")
    written.write_text(str(shift_s))
    written.replace(file)


async def reaches(daemon: Daemon, process: dict[str, Any], run: int, status: str) -> None:
    async def look() -> bool:
        seen = await daemon.get(process)
        return (seen["run"], seen["managed"]["status"]) == (run, status)

    await eventually(look, f"run {run} is {status}")


@FORWARD
@pytest.mark.parametrize("restarts", [False, True], ids=["one daemon", "over a restart of the daemon"])
async def test_backoff(daemon: Daemon, shift_s: int, restarts: bool) -> None:
    longest_ms = 24 * HOUR_S * 1000
    short = {"initial_backoff_ms": 2000, "max_backoff_ms": longest_ms}
    long = {"initial_backoff_ms": HALF_HOUR_MS, "max_backoff_ms": longest_ms}
    soon = await daemon.sh("exit 1", restart={"policy": "on_failure", "max_restarts": 1, **short})
    late = await daemon.sh("exit 1", restart={"policy": "on_failure", **long})
    await reaches(daemon, soon, 1, "backing_off")
    await reaches(daemon, late, 1, "backing_off")
    if restarts:
        await daemon.kill()
    set_clock(daemon, shift_s)
    if restarts:
        await daemon.start()
    await reaches(daemon, soon, 2, "stopped")
    await reaches(daemon, late, 1, "backing_off")


@FORWARD
async def test_a_short_run_stays_short(daemon: Daemon, shift_s: int) -> None:
    """A run of a minute resets the count of restarts."""
    restart = {"policy": "always", "max_restarts": 1, "initial_backoff_ms": 0, "max_backoff_ms": 0}
    process = await daemon.sh("read line", stdin_mode="pipe", restart=restart)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await reaches(daemon, process, 2, "running")
    set_clock(daemon, shift_s)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await reaches(daemon, process, 2, "stopped")


async def test_a_health_check_begins_after_its_delay(daemon: Daemon) -> None:
    check = {"type": "tcp", "port": 1, "interval_ms": 10, "failure_threshold": 1}
    late = await daemon.run("sleep", "1000", health_check={**check, "initial_delay_ms": HALF_HOUR_MS})
    set_clock(daemon, HOUR_S)
    await daemon.kill()
    await daemon.start()
    probe = await daemon.run(
        "sleep", "1000", health_check={**check, "initial_delay_ms": 0}, restart={"policy": "never"}
    )
    await reaches(daemon, probe, 1, "stopped")
    assert (await daemon.get(late))["managed"]["health_status"] == "starting"


async def test_silence(daemon: Daemon) -> None:
    process = await daemon.sh("echo; exec sleep 1000")
    await daemon.wait_for_lines(process, 1)
    path = f"/processes/{process['id']}/wait?until=idle"
    set_clock(daemon, HOUR_S)
    answer = await daemon.call("GET", f"{path}&idle_ms={HALF_HOUR_MS}&timeout=0.2", 200)
    assert (answer["met"], answer["reason"]) == (False, "timeout")
    set_clock(daemon, -HOUR_S)
    assert (await daemon.call("GET", f"{path}&idle_ms=300", 200))["met"]
    await daemon.kill()
    await daemon.start()
    assert (await daemon.call("GET", f"{path}&idle_ms=300", 200))["met"]
    set_clock(daemon, HOUR_S)
    answer = await daemon.call("GET", f"{path}&idle_ms={HALF_HOUR_MS}&timeout=0.2", 200)
    assert not answer["met"]


async def test_the_end_of_a_stream_that_has_an_end(daemon: Daemon) -> None:
    process = await daemon.sh("echo one; exec sleep 1000")
    until = int(time.time() * 1000) + 1500
    events = daemon.follow(process, query=f"?until={until}")
    assert (await anext(events)).data["line"] == "one\n"
    set_clock(daemon, -HOUR_S)
    assert [event.kind async for event in events] == ["eof"]

"""GET .../wait: until it has ended, has printed this, listens there, or has fallen silent."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from outlast.testing.storage.faulty import Mode
from tests.support.daemon import PYTHON, Daemon
from tests.support.faulty import FaultyStore
from tests.support.health import health
from tests.support.waiting import eventually

# Says what it is told to, without a line's end but where "_" stands for one.
ECHO = """
import sys
for line in sys.stdin:
    sys.stdout.write(line.strip().replace("_", chr(10)))
    sys.stdout.flush()
"""


async def wait(daemon: Daemon, process: dict[str, Any], query: str, status: int = 200) -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.call("GET", f"/processes/{process['id']}/wait?{query}", status)
    return answer


async def say(daemon: Daemon, process: dict[str, Any], text: str) -> None:
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=text.encode() + b"\n")


def outcome(answer: dict[str, Any]) -> tuple[Any, ...]:
    return answer["met"], answer["reason"], answer["seq"], answer["line"], answer["stream"]


@pytest.fixture
async def echo(daemon: Daemon) -> dict[str, Any]:
    return await daemon.python(ECHO, stdin_mode="pipe")


async def test_a_wait_ends_with_the_line_it_waits_for(daemon: Daemon, echo: dict[str, Any]) -> None:
    waits = [
        asyncio.create_task(wait(daemon, echo, query))
        for query in ("until=output&pattern=listening%20on%207", "until=output&pattern=^ready.*\\d$&regex=true")
    ]
    assert outcome(await wait(daemon, echo, "until=output&pattern=x&timeout=0.05"))[:2] == (False, "timeout")
    await say(daemon, echo, "hello_listen")
    await eventually(lambda: daemon.sql("SELECT max(seq) FROM output_lines") == [(2,)])  # as a part of a line
    await say(daemon, echo, "ing on 7_ready 5_")
    assert outcome(await waits[0]) == (True, None, 3, "listening on 7", "stdout")
    assert outcome(await waits[1]) == (True, None, 4, "ready 5", "stdout")
    await daemon.call("POST", f"/processes/{echo['id']}/stdin/close", 204)
    await daemon.ended(echo)
    assert outcome(await wait(daemon, echo, "until=output&pattern=ready"))[:3] == (True, None, 4)


async def test_stored_lines_are_matched_from_a_cursor(daemon: Daemon, echo: dict[str, Any]) -> None:
    await say(daemon, echo, "hello_")
    await daemon.wait_for_lines(echo, 1)
    assert outcome(await wait(daemon, echo, "until=output&pattern=hello")) == (True, None, 1, "hello", "stdout")
    for query in ("pattern=hello&after=1", "pattern=hello&stream=stderr", "pattern=HELLO"):
        assert (await wait(daemon, echo, f"until=output&timeout=0.05&{query}"))["reason"] == "timeout", query


async def test_a_wait_for_the_exit_is_met_by_it(daemon: Daemon, echo: dict[str, Any]) -> None:
    assert outcome(await wait(daemon, echo, "until=exit&timeout=0.05"))[:2] == (False, "timeout")
    waiting = asyncio.create_task(wait(daemon, echo, "until=exit"))
    await daemon.call("POST", f"/processes/{echo['id']}/stdin/close", 204)
    ended = await waiting
    assert (ended["met"], ended["process"]["status"], ended["process"]["exit_code"]) == (True, "exited", 0)
    assert (await wait(daemon, echo, "until=exit"))["met"]


async def test_a_wait_for_output_is_ended_by_the_exit(daemon: Daemon, echo: dict[str, Any]) -> None:
    waiting = asyncio.create_task(wait(daemon, echo, "until=output&pattern=never"))
    await daemon.call("POST", f"/processes/{echo['id']}/stdin/close", 204)
    assert outcome(await waiting) == (False, "ended", None, None, None)


async def test_a_wait_for_a_port_is_met_when_it_listens(daemon: Daemon) -> None:
    listener = (
        "import socket, sys\nsys.stdin.readline()\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "sys.stdin.readline()"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await daemon.python(listener, str(port), stdin_mode="pipe")
    assert outcome(await wait(daemon, process, f"until=port&port={port}&timeout=0.2"))[:2] == (False, "timeout")
    waiting = asyncio.create_task(wait(daemon, process, f"until=port&port={port}"))
    await say(daemon, process, "go")
    assert (await waiting)["met"]
    await say(daemon, process, "end")
    assert (await wait(daemon, process, "until=exit"))["met"]
    assert outcome(await wait(daemon, process, f"until=port&port={port}"))[:2] == (False, "ended")


async def test_a_port_on_either_loopback_address_is_found(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        assert (await wait(daemon, process, f"until=port&port={port}"))["met"]


async def test_a_wait_for_silence_begins_again_with_each_line(daemon: Daemon) -> None:
    ticking = await daemon.sh("while read line; do echo $line; done", stdin_mode="pipe")
    assert (await wait(daemon, ticking, "until=idle&idle_ms=1"))["met"]
    waiting = asyncio.create_task(wait(daemon, ticking, "until=idle&idle_ms=700"))
    for number in range(4):
        await say(daemon, ticking, str(number))
        assert (await wait(daemon, ticking, f"until=output&pattern={number}"))["met"]
    assert (await waiting)["met"]
    ((silent_since,),) = daemon.sql("SELECT max(ts) FROM output_lines WHERE process_id = ?", ticking["id"])
    assert time.time() * 1000 >= silent_since + 700


async def test_output_that_cannot_be_stored_is_no_silence(state_dir: Path, tmp_path: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        echo = await daemon.python(ECHO, stdin_mode="pipe")
        assert (await wait(daemon, echo, "until=idle&idle_ms=1"))["met"]
        store.inject(Mode.ERR)
        await say(daemon, echo, "a line_")
        await eventually(lambda: health(daemon))
        answer = await wait(daemon, echo, "until=idle&idle_ms=1&timeout=0.5")
        assert outcome(answer)[:2] == (False, "timeout")
        store.mend()
        assert (await wait(daemon, echo, "until=idle&idle_ms=1"))["met"]
        assert await daemon.lines(echo) == ["a line"]
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_wait_for_silence_ends_with_its_process(daemon: Daemon) -> None:
    silent = await daemon.run("sleep", "1000")
    assert (await wait(daemon, silent, "until=idle&idle_ms=600000&timeout=0.1"))["reason"] == "timeout"
    await daemon.call("DELETE", f"/processes/{silent['id']}", 204)
    assert (await wait(daemon, silent, "until=idle&idle_ms=600000"))["reason"] == "ended"


async def test_malformed_conditions_are_refused(daemon: Daemon) -> None:
    process = await daemon.run("true")
    for query, phrase in {
        "": "until is required",
        "until=later": "until must be one of exit, output, port, idle",
        "until=output": "pattern is required with until=output",
        "until=port": "port is required with until=port",
        "until=idle": "idle_ms is required with until=idle",
        "until=exit&port=80": "port cannot be used with until=exit",
        "until=port&port=80&pattern=x": "pattern cannot be used with until=port",
        "until=port&port=0": "port must be an integer from 1 to 65535",
        "until=port&port=65536": "port must be an integer from 1 to 65535",
        "until=idle&idle_ms=-1": "idle_ms must be an integer",
        "until=output&pattern=": "pattern must be 1 to 1000 characters long",
        "until=output&pattern=a%0Ab": "pattern must be part of one line",
        "until=output&pattern=(&regex=true": "pattern is not a valid RE2 regular expression",
        "until=output&pattern=(a)%5C1&regex=true": "pattern is not a valid RE2 regular expression",
        "until=output&pattern=(.{0,50}){0,20}x&regex=true": "pattern is too large: it compiles to",
        "until=output&pattern=x&stream=output": "stream must be one of stdout, stderr",
        "until=exit&timeout=0": "timeout must be a number of seconds",
        "until=exit&timeout=soon": "timeout must be a number of seconds",
        "until=exit&limit=1": "unknown field: limit",
    }.items():
        answer = await wait(daemon, process, query, 400)
        assert phrase in answer["error"], query
    await daemon.call("GET", "/processes/999999999/wait?until=exit", 404)


@pytest.mark.parametrize(
    "query", ["until=exit", "until=output&pattern=x", "until=idle&idle_ms=100000", "until=port&port=1"]
)
async def test_a_wait_is_told_that_the_daemon_ends(daemon: Daemon, query: str) -> None:
    process = await daemon.run(PYTHON, "-c", "import time\ntime.sleep(1000)")
    waiting = asyncio.create_task(wait(daemon, process, query, 503))
    await wait(daemon, process, "until=exit&timeout=0.05")  # by now the other call has come through
    assert daemon.process is not None
    daemon.process.terminate()
    assert (await waiting)["code"] == "UNAVAILABLE"


async def test_a_wait_for_health_goes_on_over_restarts(daemon: Daemon, tmp_path: Path) -> None:
    """A run is healthy while it runs only, and a later one may be."""
    go = tmp_path / "go"
    check = {"type": "exec", "command": "test", "args": ["-e", str(go)], "initial_delay_ms": 0, "interval_ms": 20}
    fields = {"health_check": {**check, "failure_threshold": 1}, "restart": {"policy": "always", "delay_ms": 0}}
    process = await daemon.run("sleep", "600", **fields)
    assert outcome(await wait(daemon, process, "until=healthy&timeout=0.05"))[:2] == (False, "timeout")
    waiting = asyncio.create_task(wait(daemon, process, "until=healthy"))
    await eventually(lambda: daemon.sql("SELECT max(run) >= 3 FROM runs") == [(1,)])
    go.touch()
    met = await waiting
    assert (met["met"], met["process"]["managed"]["health_status"]) == (True, "healthy")
    assert (await wait(daemon, process, "until=healthy"))["met"]
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert outcome(await wait(daemon, process, "until=healthy"))[:2] == (False, "ended")


async def test_a_process_that_waits_for_its_restart_is_not_healthy(daemon: Daemon) -> None:
    restart = {"policy": "always", "delay_ms": 86_400_000}
    process = await daemon.sh("echo ready; sleep 0.2", ready_log="ready", restart=restart)
    assert (await wait(daemon, process, "until=healthy"))["met"]
    await eventually(lambda: daemon.sql("SELECT status FROM managed_processes") == [("backing_off",)])
    assert outcome(await wait(daemon, process, "until=healthy&timeout=0.05"))[:2] == (False, "timeout")


async def test_a_wait_for_health_ends_with_its_process_or_its_daemon(daemon: Daemon) -> None:
    fields = {"ready_log": "never", "restart": {"policy": "always", "delay_ms": 86_400_000}}
    process = await daemon.run("true", **fields)
    waiting = asyncio.create_task(wait(daemon, process, "until=healthy"))
    await eventually(lambda: daemon.sql("SELECT status FROM managed_processes") == [("backing_off",)])
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert outcome(await waiting)[:2] == (False, "ended")
    process = await daemon.run("true", **fields)
    await daemon.kill()
    await daemon.start()  # which has had no run of it
    waiting = asyncio.create_task(wait(daemon, process, "until=healthy", 503))
    await wait(daemon, process, "until=healthy&timeout=0.05")  # by now the other call has come through
    assert daemon.process is not None
    daemon.process.terminate()
    assert (await waiting)["code"] == "UNAVAILABLE"


async def test_what_has_no_check_is_never_healthy(daemon: Daemon, echo: dict[str, Any]) -> None:
    assert "neither health_check nor ready_log" in (await wait(daemon, echo, "until=healthy", 400))["error"]
    assert "port cannot be used with until=healthy" in (await wait(daemon, echo, "until=healthy&port=1", 400))["error"]

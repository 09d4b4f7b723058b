"""Few descriptors: starts are refused before the last ones are taken, and everything else goes on."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.proc import cpu_s
from outlast.wire.contract import SOCKET_NAME
from tests.support.daemon import OUTLAST, Daemon, left_over, outlast, shim_pid
from tests.support.health import wait_until_healthy
from tests.support.programs import COUNTER
from tests.support.waiting import DEADLINE_S, eventually

SOFT = 48
ECHO = {"command": "cat", "stdin_mode": "pipe"}


def limited(count: int) -> list[str]:
    """Return the command `outlast`, with a hard limit on descriptors and a lower soft one."""
    return ["sh", "-c", f'ulimit -Sn {SOFT}; ulimit -Hn {count}; exec "$@"', "sh", *OUTLAST]


@pytest.fixture(params=[96, pytest.param(256, marks=pytest.mark.long)])
async def poor(state_dir: Path, request: pytest.FixtureRequest) -> AsyncIterator[Daemon]:
    daemon = Daemon(state_dir)
    daemon.command = limited(request.param)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.end_everything()


async def fill(daemon: Daemon, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Start processes, several at once, until none is taken any more."""
    started: list[dict[str, Any]] = []
    while True:
        calls = [daemon.client.request("POST", "/processes", json=body) for _ in range(5)]
        answers = await asyncio.gather(*calls)
        started += [answer.json for answer in answers if answer.status == 201]
        refused = [answer for answer in answers if answer.status != 201]
        for answer in refused:
            assert (answer.status, answer.headers["Retry-After"], answer.json["code"]) == (503, "1", "UNAVAILABLE")
            assert os.strerror(24) in answer.json["error"]
        if refused:
            return started


async def echoes(daemon: Daemon, process: dict[str, Any], word: str) -> None:
    """Check that a process reads, and that what it prints can be followed."""
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=f"{word}\n".encode())

    async def came() -> bool:
        return word in await daemon.lines(process)

    await eventually(came)
    async for event in daemon.follow(process, query="?tail=1"):
        assert event.data["line"] == f"{word}\n"
        break


async def down(daemon: Daemon) -> None:
    """End everything, by a command that has no more descriptors than the daemon."""
    await daemon.hang_up()
    ending = await asyncio.create_subprocess_exec(*daemon.command, "shutdown", "--state-dir", str(daemon.state_dir))
    assert await asyncio.wait_for(ending.wait(), DEADLINE_S) == 0
    assert left_over(daemon.state_dir) == []


async def test_everything_goes_on_when_starts_are_refused(poor: Daemon) -> None:
    processes = await fill(poor, ECHO)
    assert len(processes) >= 2
    listed = (await poor.call("GET", "/processes", 200))["processes"]
    assert {each["id"] for each in listed} == {each["id"] for each in processes}
    first, second = processes[:2]
    await echoes(poor, first, "one")
    await poor.call("POST", f"/processes/{second['id']}/signal", 200, {"signal": "TERM", "scope": "tree"})
    assert (await poor.ended(second))["signal"] == signal.SIGTERM
    again = await poor.run(**ECHO)  # its descriptors are free
    await poor.kill()
    await poor.start()
    await wait_until_healthy(poor)
    for process in (first, again):
        await echoes(poor, process, "two")
    await poor.call("DELETE", f"/processes/{first['id']}", 204)
    await fill(poor, ECHO)
    await down(poor)


@pytest.mark.parametrize("poor", [256], indirect=True)
async def test_a_daemon_that_connects_again_needs_no_second_set_of_descriptors(poor: Daemon) -> None:
    processes = await fill(poor, ECHO)
    code, said = await outlast("shim", "upgrade", "--state-dir", str(poor.state_dir))
    assert code == 0, said
    await eventually(lambda: "was lost" in poor.log)
    await wait_until_healthy(poor)
    for process in (processes[0], processes[-1]):
        await echoes(poor, process, "on")
    await down(poor)


async def test_a_daemon_with_a_lower_limit_than_the_shim_says_so(daemon: Daemon) -> None:
    """Nothing is touched, and a daemon with more descriptors continues."""
    processes = await asyncio.gather(*(daemon.run(**ECHO) for _ in range(12)))
    shim = shim_pid(daemon.state_dir)
    await daemon.stop()
    usual, daemon.command = daemon.command, limited(64)
    await daemon.launch()
    assert await daemon.announcement() == ""
    assert "too few descriptors for the processes of the shim" in daemon.log
    assert "Traceback" not in daemon.log
    assert await daemon.stop(0) == 1
    daemon.command = usual
    await daemon.start()
    assert shim_pid(daemon.state_dir) == shim
    await echoes(daemon, processes[-1], "on")


async def test_processes_get_the_limit_that_the_daemon_was_started_with(poor: Daemon) -> None:
    hard = resource.prlimit(poor.pid, resource.RLIMIT_NOFILE)[1]
    shim = shim_pid(poor.state_dir)
    assert shim is not None
    for program in (poor.pid, shim):
        assert resource.prlimit(program, resource.RLIMIT_NOFILE) == (hard, hard)
    process = await poor.sh("ulimit -Sn; ulimit -Hn")
    await poor.ended(process)
    assert await poor.lines(process) == [str(SOFT), str(hard)]


async def test_a_shim_without_a_descriptor_waits_for_one(daemon: Daemon) -> None:
    """Nobody can connect, and the shim does not spin; then everybody can."""
    counter = await daemon.python(COUNTER)
    await daemon.wait_for_lines(counter, 5)
    await daemon.kill()
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    limits = resource.prlimit(shim, resource.RLIMIT_NOFILE)
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (0, limits[1]))
    before = cpu_s(shim)
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(daemon.state_dir, os.O_RDONLY)
        sock.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        os.close(folder)
        sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert cpu_s(shim) - before < 0.5
        resource.prlimit(shim, resource.RLIMIT_NOFILE, limits)
        sock.settimeout(DEADLINE_S)
        assert sock.recv(1)
    await daemon.start()
    await daemon.wait_for_lines(counter, 50)


async def test_connections_that_say_nothing_lock_no_daemon_out(poor: Daemon) -> None:
    await poor.kill()
    shim = shim_pid(poor.state_dir)
    folder = os.open(poor.state_dir, os.O_RDONLY)
    silent = []
    for _ in range(300):
        silent.append(socket.socket(socket.AF_UNIX))
        await asyncio.to_thread(silent[-1].connect, f"/proc/self/fd/{folder}/{SOCKET_NAME}")
    os.close(folder)
    await poor.start()
    assert (await poor.ended(await poor.sh("exit 3")))["exit_code"] == 3
    assert shim_pid(poor.state_dir) == shim
    for sock in silent:
        sock.close()

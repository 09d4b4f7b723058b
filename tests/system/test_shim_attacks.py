"""The shim dies, or the daemon, or both are short of something, at the least convenient moments."""

import asyncio
import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from outlast.failpoints import VARIABLE
from tests.support.daemon import Daemon, is_running, shim_pid, wait_for_another_shim, wait_until_gone
from tests.support.health import wait_until_healthy
from tests.support.programs import COUNTER
from tests.support.waiting import eventually


def kill_shim(daemon: Daemon) -> int:
    """SIGKILL whichever shim there is, and return its pid; 0: there is none now."""
    shim = shim_pid(daemon.state_dir)
    if shim is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shim, signal.SIGKILL)
    return shim or 0


async def counts_on(daemon: Daemon, process: dict[str, Any]) -> None:
    """Check that a process runs, and that its output arrives without a hole."""
    before = (await daemon.get(process))["output"]["lines"]
    await daemon.wait_for_lines(process, before + 20)
    lines = (await daemon.raw(process)).split(b"\n")[:-1]
    assert lines == [b"%d" % i for i in range(1, len(lines) + 1)]


async def test_a_daemon_that_is_told_to_end_hands_over_first(daemon: Daemon) -> None:
    """Between the shim's death and the next one the daemon is all that keeps the processes."""
    processes = [await daemon.python(COUNTER) for _ in range(5)]
    ends = await daemon.sh("read x; exit 9", stdin_mode="pipe")
    for process in processes:
        await daemon.wait_for_lines(process, 5)
    killed = kill_shim(daemon)
    await eventually(lambda: not is_running(killed))
    assert await daemon.stop() == 0
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    Path(f"/proc/{ends['pid']}/fd/0").write_text("\n")
    await eventually(lambda: not is_running(ends["pid"]))
    await daemon.start()
    assert shim_pid(daemon.state_dir) == shim
    for process in processes:
        await counts_on(daemon, process)
    assert (await daemon.ended(ends))["exit_code"] == 9


async def test_a_flood_does_not_keep_a_daemon_from_ending(daemon: Daemon) -> None:
    """A daemon that read to the end of the flood would never end. How fast this machine is, a restart says."""
    clock = asyncio.get_running_loop().time
    before = clock()
    await daemon.stop()
    await daemon.start()
    restart_s = clock() - before
    process = await daemon.run("yes")
    await daemon.wait_for_lines(process, 100_000)
    before = clock()
    assert await daemon.stop() == 0
    assert clock() - before < 5 * restart_s
    await daemon.start()
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    raw = await daemon.raw(process, query="?tail=1000")
    assert set(raw) <= set(b"y\n")


async def test_a_shim_that_is_killed_repeatedly_loses_no_process(daemon: Daemon) -> None:
    """Also before the one before has been handed anything."""
    processes = [await daemon.python(COUNTER) for _ in range(6)]
    killed: set[int] = set()

    async def another() -> bool:
        pid = shim_pid(daemon.state_dir)
        if pid is None or pid in killed:
            return False
        killed.add(kill_shim(daemon))
        return True

    for _ in range(6):
        await eventually(another)
    await wait_until_healthy(daemon)
    for process in processes:
        await counts_on(daemon, process)


async def test_200_processes_are_handed_over(daemon: Daemon) -> None:
    batches = [[daemon.run("cat", stdin_mode="pipe") for _ in range(20)] for _ in range(10)]
    processes = [process for batch in batches for process in await asyncio.gather(*batch)]
    ending = processes[::4]
    rest = [process for process in processes if process not in ending]
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        kill_shim(daemon)
        for number, process in enumerate(ending):  # a quarter of them ends while there is no shim
            os.kill(process["pid"], (signal.SIGTERM, signal.SIGKILL)[number % 2])
        await eventually(lambda: not any(is_running(process["pid"]) for process in ending))
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    await wait_until_healthy(daemon)
    for number, process in enumerate(ending):
        ended = await daemon.ended(process)
        assert (ended["signal"], ended["reason"]) == ((signal.SIGTERM, signal.SIGKILL)[number % 2], "signaled")

    async def talk(process: dict[str, Any]) -> None:
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=process["id"].encode())
        await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
        assert (await daemon.ended(process))["exit_code"] == 0
        assert await daemon.raw(process) == process["id"].encode()

    for start in range(0, len(rest), 25):
        await asyncio.gather(*(talk(process) for process in rest[start : start + 25]))


async def test_a_purge_succeeds_while_the_shim_is_replaced(daemon: Daemon) -> None:
    """At the first try: it goes on with the next shim, and nobody has to ask again and again."""
    processes = [await daemon.python(COUNTER) for _ in range(12)]

    async def purge(process: dict[str, Any]) -> None:
        await daemon.call("DELETE", f"/processes/{process['id']}?purge=true&wait=60", 204)

    purges = []
    for number, process in enumerate(processes[:-1]):
        if number % 4 == 1:
            kill_shim(daemon)
        purges.append(asyncio.create_task(purge(process)))
        await asyncio.sleep(0)
    await asyncio.gather(*purges)
    await wait_until_healthy(daemon)
    assert [p["id"] for p in (await daemon.call("GET", "/processes", 200))["processes"]] == [processes[-1]["id"]]
    await eventually(lambda: not any(is_running(process["pid"]) for process in processes[:-1]))
    await counts_on(daemon, processes[-1])


async def test_each_start_is_answered_while_the_shim_is_killed(daemon: Daemon, tmp_path: Path) -> None:
    """A start that was answered with an error has not happened, and one that was answered is there."""
    ran = tmp_path / "ran"
    ran.mkdir()
    accepted: dict[str, int] = {}
    refused: list[int] = []

    async def start(number: int) -> None:
        body = {"command": "sh", "args": ["-c", f"touch {ran}/{number}; echo {number}; exit {number % 100}"]}
        async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
            assert response.status in {201, 503}, await response.text()
            if response.status == 201:
                accepted[(await response.json())["id"]] = number
            else:
                refused.append(number)

    number = 0
    for _ in range(4):
        starts = [asyncio.create_task(start(number := number + 1)) for _ in range(25)]

        async def some_done(starts: list[asyncio.Task[None]] = starts) -> bool:
            return sum(task.done() for task in starts) > 4

        await eventually(some_done)
        kill_shim(daemon)
        await asyncio.gather(*starts)
        await wait_until_healthy(daemon)
    assert len(accepted) + len(refused) == 100
    assert accepted
    for process_id, number in accepted.items():
        ended = await daemon.ended({"id": process_id})
        assert (ended["exit_code"], ended["reason"]) == (number % 100, "exited")
        assert await daemon.raw({"id": process_id}) == b"%d\n" % number
    listed = {p["id"] for p in (await daemon.call("GET", "/processes?limit=1000", 200))["processes"]}
    assert listed == set(accepted)
    assert {int(path.name) for path in ran.iterdir()} == set(accepted.values())


async def test_a_stopped_shim_blocks_no_call_forever(daemon: Daemon, tmp_path: Path) -> None:
    """Calls that need it are answered with 503, health says why, and what was refused has not run when it goes on."""
    counter = await daemon.python(COUNTER)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    ran = tmp_path / "ran"
    os.kill(shim, signal.SIGSTOP)
    try:
        error = await daemon.call("POST", "/processes", 503, {"command": "touch", "args": [str(ran)]})
        assert "does not answer" in error["error"]
        error = await daemon.call("GET", "/health", 503)
        assert "does not answer" in error["error"]
        assert (await daemon.get(counter))["status"] == "running"
    finally:
        os.kill(shim, signal.SIGCONT)
    await wait_until_healthy(daemon)
    assert (await daemon.ended(await daemon.sh("exit 3")))["exit_code"] == 3
    assert not ran.exists()
    assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 2


async def test_too_few_open_files_fail_only_the_start(daemon: Daemon) -> None:
    """The start is refused, nothing of it is left, and nothing that runs suffers."""
    counter = await daemon.python(COUNTER)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None

    def has() -> tuple[int, int]:
        children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        return len(os.listdir(f"/proc/{shim}/fd")), len(children)

    before = has()
    limits = resource.prlimit(shim, resource.RLIMIT_NOFILE)
    statuses = set()
    for room in range(0, 40, 3):
        resource.prlimit(shim, resource.RLIMIT_NOFILE, (before[0] + room, limits[1]))
        body = {"command": "cat", "stdin_mode": "pipe"}
        async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
            statuses.add(response.status)
            answer = await response.json()
        if response.status == 201:
            await daemon.call("DELETE", f"/processes/{answer['id']}", 204)
        await eventually(lambda: has() == before, f"with room for {room}, no descriptor and no child stays")
    assert statuses == {201, 503}
    resource.prlimit(shim, resource.RLIMIT_NOFILE, limits)
    other = await daemon.sh("exit 5")
    assert (await daemon.ended(other))["exit_code"] == 5
    assert shim_pid(daemon.state_dir) == shim
    await counts_on(daemon, counter)


@pytest.mark.parametrize("room", [0, 2, 5])
async def test_a_daemon_with_too_few_open_files_hands_over(daemon: Daemon, room: int) -> None:
    """The daemon has no file to spare: it waits until it has one."""
    counter = await daemon.python(COUNTER)
    await daemon.wait_for_lines(counter, 5)
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{daemon.pid}/fd")) + room, limits[1]))
    shim = kill_shim(daemon)
    await eventually(lambda: "was lost" in daemon.log)

    def tried() -> bool:
        return "cannot reach the shim" in daemon.log or shim_pid(daemon.state_dir) not in {None, shim}

    await eventually(tried)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    await wait_until_healthy(daemon)
    await counts_on(daemon, counter)


@pytest.mark.parametrize("setting", ["buffer_limit_bytes", "buffer_memory_bytes", "buffer_spool_bytes"])
async def test_without_buffers_a_process_waits_only_while_no_daemon_runs(
    state_dir: Path, tmp_path: Path, setting: str
) -> None:
    config = tmp_path / "none.toml"
    config.write_text(f"{setting} = 0\n")
    daemon = Daemon(state_dir, OUTLAST_CONFIG=str(config))
    try:
        await daemon.start()
        process = await daemon.sh(
            "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done; read x; seq 300 100000", stdin_mode="pipe"
        )
        await daemon.wait_for_lines(process, 300)
        await daemon.kill()
        Path(f"/proc/{process['pid']}/fd/0").write_text("\n")
        await daemon.start()
        await daemon.ended(process)
        assert await daemon.raw(process) == b"".join(b"%d\n" % i for i in range(100_001))
    finally:
        await daemon.end_everything()


async def kill_both_twice(daemon: Daemon) -> None:
    """Kill the shim and, when it is replaced, the daemon; then both again."""
    for _ in range(2):
        shim = kill_shim(daemon)
        await wait_for_another_shim(daemon, shim)
        await wait_until_healthy(daemon)
        await daemon.kill()
        await daemon.start()


async def test_a_process_that_closed_its_output_is_kept_over_kills(daemon: Daemon) -> None:
    process = await daemon.sh("echo first; exec 1>&-; read x; echo on stderr >&2; exit 3", stdin_mode="pipe")
    await daemon.wait_for_lines(process, 1)
    await kill_both_twice(daemon)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    assert (await daemon.ended(process))["exit_code"] == 3
    assert await daemon.raw(process) == b"first\non stderr\n"


async def test_output_of_a_child_of_an_ended_process_is_kept_over_kills(daemon: Daemon) -> None:
    process = await daemon.sh("(read x < fifo; echo late) & echo early; exit 4", working_dir=str(fifo(daemon)))
    await daemon.wait_for_lines(process, 1)
    await kill_both_twice(daemon)
    seen = await daemon.get(process)
    assert (seen["exit_code"], seen["reason"]) == (4, "exited")
    (fifo_of(daemon) / "fifo").write_text("\n")
    await daemon.ended(process)
    assert await daemon.raw(process) == b"early\nlate\n"


def fifo_of(daemon: Daemon) -> Path:
    return daemon.state_dir.parent


def fifo(daemon: Daemon) -> Path:
    os.mkfifo(fifo_of(daemon) / "fifo")
    return fifo_of(daemon)


@pytest.mark.parametrize("point", ["handover-begun", "handover-step", "handover-step:2"])
async def test_a_daemon_death_during_a_handover_is_reported(state_dir: Path, point: str) -> None:
    """Processes that were handed over go on; the others are lost, and reported so."""
    daemon = Daemon(state_dir, **{VARIABLE: point})
    try:
        await daemon.start()
        processes = [await daemon.python(COUNTER) for _ in range(4)]
        for process in processes:
            await daemon.wait_for_lines(process, 5)
        kill_shim(daemon)
        assert daemon.process is not None
        await asyncio.wait_for(daemon.process.wait(), 20)
        await daemon.stop(0)
        del daemon.environment[VARIABLE]
        await daemon.start()
        handed_over = {"handover-begun": 0, "handover-step": 1, "handover-step:2": 2}[point]
        for process in processes[:handed_over]:
            await counts_on(daemon, process)
        for process in processes[handed_over:]:
            seen = await daemon.ended(process)
            assert seen["reason"] == "lost"
            await wait_until_gone(process["pid"])
    finally:
        await daemon.end_everything()

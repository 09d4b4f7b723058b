"""When DELETE is answered, nothing of the tree is left; and what a signal of each scope reaches."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, pids
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import DEADLINE_S, eventually

# One that ignores what it can, in each of the places where a descendant may hide, and one that is stopped.
STUBBORN = """
import os, signal, time
def stay(name):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(name, os.getpid(), flush=True)
    while True:
        time.sleep(1000)
if os.fork() == 0:
    stay("group")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        stay("orphan")
    os._exit(0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stay("inner")
    stay("session")
if os.fork() == 0:
    os.setsid()
    print("stopped", os.getpid(), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
stay("leader")
"""
# Six levels of two children each, and a parent that loses one makes another: killed one by one, it grows again.
STORM = """
import os, time
def grow(level):
    if level == 0:
        print("deep", flush=True)
        time.sleep(1000)
    def child():
        if os.fork() == 0:
            os.setsid()
            grow(level - 1)
    child()
    child()
    while True:
        os.wait()
        child()
grow(5)
"""
USR1 = """
import os, signal, time
def say(what):
    os.write(1, f"{what} {name}\\n".encode())  # a handler may come in the middle of a print
signal.signal(signal.SIGUSR1, lambda *_: say("hit"))
name = "leader"
def wait():
    say("ready")
    while True:
        time.sleep(0.01)  # a signal that comes just before a sleep is handled only after it
if os.fork() == 0:
    name = "group"
    wait()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        name = "orphan"
        wait()
    os._exit(0)
wait()
"""


# As if one process could not be killed, for as long as a file is there.
UNKILLABLE = """
import os
import outlast.shim.kill.tree as t
kill_tree = t.kill_tree
t.kill_tree = lambda *args, **fields: kill_tree(*args, **fields) + os.path.exists({flag!r})
"""


@pytest.fixture(params=["cgroup", "proc"])
async def either(request: pytest.FixtureRequest, state_dir: Path) -> AsyncIterator[Daemon]:
    """A daemon whose shim has control groups, if they can be made here, and one whose shim has none."""
    daemon = Daemon(state_dir) if request.param == "cgroup" else patched_daemon(state_dir, NO_CGROUPS)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.end_everything()


def left_of(process: dict[str, Any]) -> list[int]:
    """Find what carries a process's mark and lives."""
    marker = f"OUTLAST_PROCESS_ID={process['id']}".encode()
    found = []
    for pid in pids():
        try:
            if marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and is_running(pid):
                found.append(pid)
        except OSError:
            continue
    return found


async def first_lines(daemon: Daemon, process: dict[str, Any], count: int) -> list[str]:
    stream = daemon.follow(process)
    async with asyncio.timeout(DEADLINE_S):
        return [(await anext(stream)).data["line"].rstrip("\n") for _ in range(count)]


async def test_the_tree_has_ended_when_delete_is_answered(either: Daemon) -> None:
    stubborn, storm = await either.python(STUBBORN), await either.python(STORM)
    members = {line.split()[0]: int(line.split()[1]) for line in await first_lines(either, stubborn, 6)}
    assert set(members) == {"leader", "group", "orphan", "session", "inner", "stopped"}
    await eventually(lambda: "T" in Path(f"/proc/{members['stopped']}/stat").read_text().rpartition(")")[2].split()[0])
    await first_lines(either, storm, 32)
    bystander = await either.run("sleep", "1000")

    await either.call("POST", f"/processes/{stubborn['id']}/signal", 200, {"signal": "SIGTERM", "scope": "tree"})
    assert len(left_of(stubborn)) == 6
    await either.call("DELETE", f"/processes/{stubborn['id']}", 204)
    assert left_of(stubborn) == []
    assert not any(is_running(pid) for pid in members.values())
    await either.call("DELETE", f"/processes/{storm['id']}", 204)
    assert left_of(storm) == []
    assert (await either.get(storm))["signal"] == signal.SIGKILL

    # What outlived its process is waited for as well, and nobody else is touched.
    outlived = await either.sh("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")
    await either.ended(outlived)
    assert len(left_of(outlived)) == 1
    await either.call("DELETE", f"/processes/{outlived['id']}?purge=true", 204)
    assert left_of(outlived) == []
    assert is_running(bystander["pid"])


async def test_a_signal_reaches_its_scope(either: Daemon) -> None:
    bystander = await either.python(USR1)
    for scope, reached in (
        ("process", {"leader"}),
        (None, {"leader", "group"}),
        ("group", {"leader", "group"}),
        ("tree", {"leader", "group", "orphan"}),
    ):
        process = await either.python(USR1)
        assert set(await first_lines(either, process, 3)) == {"ready leader", "ready group", "ready orphan"}
        body = {"signal": "SIGUSR1"} if scope is None else {"signal": signal.SIGUSR1, "scope": scope}
        assert await either.call("POST", f"/processes/{process['id']}/signal", 200, body) == {"success": True}
        await first_lines(either, process, 3 + len(reached))
        # What comes behind it in each of them was sent later, and would be seen after it.
        await either.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGKILL", "scope": "tree"})
        await either.ended(process)
        hits = [line.split()[1] for line in await either.lines(process) if line.startswith("hit ")]
        assert sorted(hits) == sorted(reached)
    assert not [line for line in await either.lines(bystander) if line.startswith("hit ")]
    unknown: tuple[Any, ...] = ("all", None, 1)
    for given in unknown:
        asked = {"signal": 15, "scope": given}
        error = await either.call("POST", f"/processes/{bystander['id']}/signal", 400, asked)
        assert "scope" in error["error"]


async def test_delete_waits_as_long_as_requested(state_dir: Path) -> None:
    flag = state_dir.parent / "unkillable"
    flag.touch()
    daemon = patched_daemon(state_dir, NO_CGROUPS + UNKILLABLE.format(flag=str(flag)))
    try:
        await daemon.start()
        for wait in ("-1", "61", "x", "1e3", "", "nan"):
            error = await daemon.call("DELETE", f"/processes/1?wait={wait}", 400)
            assert "wait must be a number from 0 to 60" in error["error"]
        process = await daemon.run("sleep", "1000")
        for query in ("?wait=0", "?wait=0.1", "?wait=0&purge=true"):
            seen = await daemon.call("DELETE", f"/processes/{process['id']}{query}", 202)
            assert seen["id"] == process["id"]
        assert (await daemon.ended(process))["signal"] == signal.SIGKILL
        deletion = asyncio.create_task(daemon.call("DELETE", f"/processes/{process['id']}", 204))
        await daemon.call("GET", "/health", 200)
        assert not deletion.done()
        flag.unlink()
        await deletion
        await daemon.call("DELETE", f"/processes/{process['id']}?purge=true&wait=5", 204)
        await daemon.call("GET", f"/processes/{process['id']}", 404)
    finally:
        await daemon.end_everything()


async def test_many_kills_at_once_are_each_answered(either: Daemon) -> None:
    processes = [await either.sh("sleep 1000 & setsid sleep 1000 & wait") for _ in range(10)]
    await asyncio.gather(*(either.call("DELETE", f"/processes/{process['id']}", 204) for process in processes * 2))
    assert [left_of(process) for process in processes] == [[]] * 10


async def test_sigkill_without_a_scope_reaches_the_tree(either: Daemon) -> None:
    process = await either.sh("setsid sleep 58 & echo $!; setsid env -i sleep 59 & echo $!; sleep 60")
    children = [int(line) for line in await first_lines(either, process, 2)]
    in_group = await either.sh("setsid sleep 58 & echo $!; sleep 60")
    (survivor,) = [int(line) for line in await first_lines(either, in_group, 1)]
    await either.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": 9})
    await either.call("POST", f"/processes/{in_group['id']}/signal", 200, {"signal": 9, "scope": "group"})
    await eventually(lambda: not any(is_running(pid) for pid in (process["pid"], *children)))
    assert (await either.ended(process))["signal"] == signal.SIGKILL
    await eventually(lambda: not is_running(in_group["pid"]))
    assert is_running(survivor)

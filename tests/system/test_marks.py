"""Descendants that hide are recognized by the mark of their run; of those that lost every mark, the answer says so."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.proc import forker_pid
from outlast.linux.marks import read_mark
from outlast.linux.proc import boot_ticks, read_stat
from outlast.wire.identity import load_identity, make_mark
from tests.support.daemon import OUTLAST, Daemon, is_running, shim_pid
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import eventually

SLEEP = "exec sleep 1000 >/dev/null 2>&1 </dev/null"
# Each leaves session and parent and ends with a clean environment, and prints its pid.
HIDDEN = {
    "clean environment": f"setsid env -i sh -c '{SLEEP}' & echo $!",
    "worker of Python": (
        "exec python3 -c '\n"
        "import multiprocessing, os, time\n"
        "def work():\n"
        "    os.setsid(); print(os.getpid(), flush=True); os.closerange(0, 3); time.sleep(1000)\n"
        'context = multiprocessing.get_context("fork")\n'
        "worker = context.Process(target=work)\n"
        "os.environ.clear(); worker.start(); os._exit(0)'"
    ),
    "lowered limits": f"ulimit -n 100; ulimit -c 0; setsid env -i sh -c '{SLEEP}' & echo $!",
    "another user": f"setsid env -i setpriv --reuid 65534 --clear-groups sh -c '{SLEEP}' & echo $!",
}
LOST_ALL = """
import os, resource
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        resource.setrlimit(10, (resource.RLIM_INFINITY, resource.getrlimit(10)[1]))
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
"""


@pytest.fixture
async def without_cgroups(state_dir: Path) -> AsyncIterator[Daemon]:
    daemon = patched_daemon(state_dir, NO_CGROUPS)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.end_everything()


async def printed_pid(daemon: Daemon, process: dict[str, Any]) -> int:
    await daemon.ended(process)
    return int((await daemon.lines(process))[0])


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("how", HIDDEN)
async def test_a_kill_finds_what_left_all_but_its_mark(without_cgroups: Daemon, how: str) -> None:
    if how == "another user" and os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    daemon = without_cgroups
    process = await daemon.sh(HIDDEN[how])
    bystander = await daemon.sh(HIDDEN["clean environment"])
    hidden, other = await printed_pid(daemon, process), await printed_pid(daemon, bystander)
    await eventually(lambda: b"OUTLAST" not in environment_of(hidden) or how == "worker of Python")
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert not is_running(hidden)
    assert is_running(other)


async def test_a_process_bears_the_mark_of_its_run_and_nothing_else_is_changed(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    mark = make_mark(load_identity(daemon.state_dir).secret, process["id"])
    assert read_mark(process["pid"]) == mark
    assert f"OUTLAST_MARK={mark}".encode() in environment_of(process["pid"]).split(b"\0")
    own, shown = (Path(f"/proc/{pid}/limits").read_text().splitlines() for pid in ("self", process["pid"]))
    assert [line for line in own if line not in shown and "locks" not in line and "open files" not in line] == []
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    helper = forker_pid(shim)
    assert helper is not None
    assert b"OUTLAST_MARK=0" in environment_of(helper).split(b"\0")


async def test_what_lost_every_mark_is_named_and_not_killed(without_cgroups: Daemon) -> None:
    daemon = without_cgroups
    older = await daemon.run("sleep", "1000")
    process = await daemon.python(LOST_ALL)
    pid = await printed_pid(daemon, process)
    await eventually(lambda: not environment_of(pid))
    started = read_stat(pid)
    assert started is not None
    await eventually(lambda: boot_ticks() > started.start_ticks)  # in the same tick, `younger` might be its parent
    younger = await daemon.run("sleep", "1000")
    try:
        for query in ("", "?purge=true"):
            answer = await daemon.call("DELETE", f"/processes/{process['id']}{query}", 202)
            assert answer["id"] == process["id"]
            assert f": {pid}. " in answer["warnings"][0]
        await daemon.call("GET", f"/processes/{process['id']}", 404)
        assert is_running(pid)
        await daemon.call("DELETE", f"/processes/{younger['id']}", 204)  # it is older than that process
        await daemon.call("DELETE", f"/processes/{older['id']}", 202)  # it may have been its parent
    finally:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_running(pid))
    await daemon.call("DELETE", f"/processes/{older['id']}", 204)


async def test_the_environment_has_the_mark_where_limits_are_refused(state_dir: Path) -> None:
    daemon = patched_daemon(state_dir, NO_CGROUPS)
    daemon.command = ["prlimit", "--locks=100:100", *OUTLAST]
    try:
        await daemon.start()
        marked = await daemon.sh(f"setsid sh -c '{SLEEP}' & echo $!")
        clean = await daemon.sh(HIDDEN["clean environment"])
        pids = [await printed_pid(daemon, process) for process in (marked, clean)]
        assert [read_mark(pid) for pid in pids] == [100, 100]
        await eventually(lambda: b"OUTLAST" not in environment_of(pids[1]))
        await daemon.call("DELETE", f"/processes/{clean['id']}", 202)
        await daemon.call("DELETE", f"/processes/{marked['id']}", 202)  # as old as what `clean` has left
        assert [is_running(pid) for pid in pids] == [False, True]
        os.kill(pids[1], signal.SIGKILL)
    finally:
        await daemon.end_everything()

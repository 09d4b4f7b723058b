"""Signals, and ending everything that a process started."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from harness.proc import forker_pid
from tests.support.daemon import Daemon, is_running, outlast, shim_pid
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import eventually

# A tree of four: leader, a child in its group, one in a session of its own, a daemonised one that ignores SIGTERM.
TREE = """
import os, signal, sys, time
def report(name):
    print(name, os.getpid(), flush=True)
def sleep():
    time.sleep(1000)
if os.fork() == 0:
    report("group"); sleep()
if os.fork() == 0:
    os.setsid(); report("session"); sleep()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            report("daemonised")
            os.dup2(null, 0); os.dup2(null, 1); os.dup2(null, 2)
            sleep()
        os._exit(0)
    os._exit(0)
report("leader")
sleep()
"""


async def tree(daemon: Daemon) -> tuple[dict[str, object], dict[str, int]]:
    process = await daemon.python(TREE)
    members: dict[str, int] = {}
    async for event in daemon.follow(process):
        name, pid = event.data["line"].split()
        members[name] = int(pid)
        if len(members) == 4:
            break
    return process, members


async def gone(members: dict[str, int]) -> None:
    await eventually(lambda: not any(is_running(pid) for pid in members.values()), f"the end of {members}")


async def test_delete_ends_everything_that_was_started(daemon: Daemon) -> None:
    process, members = await tree(daemon)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    await gone(members)
    seen = await daemon.get(process)
    assert (seen["status"], seen["signal"], seen["reason"]) == ("signaled", signal.SIGKILL, "signaled")
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)


async def test_delete_ends_the_tree_of_an_ended_process(daemon: Daemon) -> None:
    process, members = await tree(daemon)
    os.kill(members["leader"], signal.SIGKILL)

    async def ended() -> bool:
        return bool((await daemon.get(process))["status"] == "signaled")

    await eventually(ended)
    assert is_running(members["daemonised"])
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    await gone(members)


async def test_without_cgroups_the_tree_is_followed(state_dir: Path) -> None:
    daemon = patched_daemon(state_dir, NO_CGROUPS)
    try:
        await daemon.start()
        process, members = await tree(daemon)
        assert "outlast-" not in Path(f"/proc/{members['daemonised']}/cgroup").read_text()
        await daemon.call("DELETE", f"/processes/{process['id']}", 204)
        await gone(members)
        process, members = await tree(daemon)
        os.kill(members["leader"], signal.SIGKILL)
        await eventually(lambda: not is_running(members["leader"]))
        await daemon.call("DELETE", f"/processes/{process['id']}", 204)
        await gone(members)
    finally:
        await daemon.end_everything()


async def test_a_fork_storm_ends(daemon: Daemon) -> None:
    process = await daemon.python(
        "import os, time\nfor generation in range(40):\n    if os.fork():\n        time.sleep(1000)\n    os.setsid()\n"
        "print('deep', flush=True)\ntime.sleep(1000)"
    )
    assert (await anext(daemon.follow(process))).data["line"] == "deep\n"
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    marker = f"OUTLAST_PROCESS_ID={process['id']}".encode()

    def left() -> bool:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if marker in Path(f"/proc/{name}/environ").read_bytes() and is_running(int(name)):
                        return True
                except OSError:
                    continue
        return False

    await eventually(lambda: not left())


async def test_a_signal_by_number_or_name(daemon: Daemon) -> None:
    for given in (15, "SIGTERM", "TERM"):
        process = await daemon.run("sleep", "1000")
        answer = await daemon.call("POST", f"/processes/{process['pid']}/signal", 200, {"signal": given})
        assert answer == {"success": True}
        assert (await daemon.ended(process))["signal"] == signal.SIGTERM


async def test_a_signal_reaches_the_whole_group(daemon: Daemon) -> None:
    process = await daemon.sh(
        "(trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done) & "
        "trap 'echo leader; wait; exit' USR1; echo ready; while :; do sleep 0.01; done"
    )
    stream = daemon.follow(process)
    assert [(await anext(stream)).data["line"] for _ in range(2)] == ["ready\n"] * 2
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGUSR1"})
    rest = {event.data.get("line") async for event in stream}
    assert rest >= {"child\n", "leader\n"}


def state(process: dict[str, Any]) -> str:
    """Return the kernel's letter for the state of a process."""
    return Path(f"/proc/{process['pid']}/stat").read_text().rpartition(")")[2].split()[0]


async def stopped_process(daemon: Daemon) -> dict[str, Any]:
    process = await daemon.run("sleep", "1000")
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGSTOP"})
    await eventually(lambda: state(process) == "T")
    return process


async def test_a_stopped_process_continues(daemon: Daemon) -> None:
    process = await stopped_process(daemon)
    assert (await daemon.get(process))["status"] == "running"
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGCONT"})
    await eventually(lambda: state(process) == "S")


async def test_delete_ends_a_stopped_process(daemon: Daemon) -> None:
    process = await stopped_process(daemon)
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert (await daemon.get(process))["signal"] == signal.SIGKILL


# Ends with 7 on SIGTERM.
ORDERLY = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: exit(7))
print("ready", flush=True)
time.sleep(1000)
"""


async def test_a_stopped_process_is_continued_to_end_in_order(daemon: Daemon) -> None:
    managed = {"restart": {"policy": "always"}, "stop_grace_ms": 60_000}
    deleted, left = await daemon.python(ORDERLY, **managed), await daemon.python(ORDERLY)
    for process in (deleted, left):
        await anext(daemon.follow(process))
        await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGSTOP"})
    await eventually(lambda: state(deleted) == state(left) == "T")
    await daemon.call("DELETE", f"/processes/{deleted['id']}", 204)
    assert (await daemon.get(deleted))["exit_code"] == 7
    os.kill(daemon.pid, signal.SIGSTOP)  # a daemon that is to end is continued, too
    code, said = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert code == 0, said
    assert daemon.sql("SELECT exit_code FROM processes WHERE id = ?", left["id"]) == [(7,)]


async def test_unknown_signals_are_refused(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    refused: tuple[Any, ...] = (0, -1, 65, 99999, "SIGNOSUCH", "", None, True, 15.5, [15], {})
    for given in refused:
        error = await daemon.call("POST", f"/processes/{process['id']}/signal", 400, {"signal": given})
        assert error["code"] == "INVALID_REQUEST", given
        assert "signal" in error["error"], given
        assert (await daemon.get(process))["status"] == "running", given


async def test_a_process_that_has_ended_gets_no_signal(daemon: Daemon) -> None:
    process = await daemon.run("true")
    await daemon.ended(process)
    error = await daemon.call("POST", f"/processes/{process['id']}/signal", 400, {"signal": 9})
    assert error["code"] == "NOT_RUNNING"
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert (await daemon.get(process))["exit_code"] == 0


async def test_exit_codes_are_each_processes_own(daemon: Daemon) -> None:
    """A reaper that waits for any child takes exit codes away."""
    program = (
        "import os, sys\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n        os._exit(99)\n"
        "os._exit(int(sys.argv[1]))"
    )
    processes = await asyncio.gather(*(daemon.python(program, str(i)) for i in range(40)))
    assert [(await daemon.ended(process))["exit_code"] for process in processes] == list(range(40))


async def test_the_shim_leaks_neither_zombies_nor_descriptors(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{shim}/fd"))

    before = descriptors() + 2  # the socket and the pidfd of what forks from now on
    await daemon.ended(await daemon.sh("exit 3"))
    await eventually(lambda: descriptors() == before, "of a process that has ended some are open for a moment yet")
    for round_number in range(3):
        processes = await asyncio.gather(*(daemon.sh("(sleep 0.01 &) ; exit 3", stdin_mode="pipe") for _ in range(20)))
        for process in processes:
            await daemon.ended(process)
        await daemon.call("POST", "/processes", 422, {"command": f"no-such-{round_number}"})

    def clean() -> bool:
        children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        return descriptors() == before and children == [str(forker_pid(shim))]

    await eventually(clean)


async def test_a_purge_deletes_all_of_a_process(daemon: Daemon) -> None:
    process = await daemon.sh("echo something; sleep 1000")
    await anext(daemon.follow(process))
    kept = await daemon.sh("echo kept")
    await daemon.ended(kept)
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    assert (await daemon.call("GET", f"/processes/{process['id']}", 404))["code"] == "NOT_FOUND"
    assert not is_running(process["pid"])
    assert daemon.sql("SELECT id FROM processes") == [(kept["id"],)]
    assert daemon.sql("SELECT line FROM output_lines") == [("kept",)]
    await daemon.kill()
    await daemon.start()
    assert [p["id"] for p in (await daemon.call("GET", "/processes", 200))["processes"]] == [kept["id"]]
    assert (await daemon.call("GET", "/info", 200))["total_processes"] == 1

"""System calls that the kernel or a sandbox refuses: everything works all the same, or a sentence names the call."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import refused_calls
from tests.support.daemon import OUTLAST, Daemon, is_running, shim_pid, wait_for_another_shim, wait_until_gone
from tests.support.health import health
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import DEADLINE_S, eventually

REFUSER = [sys.executable, "-I", "-S", refused_calls.__file__]
NO_PIDFDS = "pidfd_open,pidfd_send_signal"
OF_LITTLE_USE = "F_SETPIPE_SZ,F_GETPIPE_SZ,PR_SET_CHILD_SUBREAPER,io_uring_setup,getxattr,fchown"
ALL = f"splice,{NO_PIDFDS},close_range,fallocate,{OF_LITTLE_USE}"
SUBSTITUTED = [
    *(("ENOSYS", calls) for calls in ("splice", "pidfd_open", "pidfd_send_signal", "close_range", "fallocate")),
    *(("ENOSYS", calls) for calls in ("clone3", OF_LITTLE_USE)),
    *(pytest.param("EPERM", calls, marks=pytest.mark.long) for calls in ("splice", "pidfd_open", "pidfd_send_signal")),
]
NEEDED = {
    "memfd_create": "memfd_create(2)",
    "epoll_create1": "epoll_create1(2)",
    "eventfd2": "eventfd(2)",
    "waitid": "waitid(2)",
    "prlimit64": "prlimit(2)",
    "F_SETLK": "F_SETLK",
    "SO_PEERCRED": "SO_PEERCRED",
    "io_uring_enter": "io_uring_enter(2)",
}
LONG = "import os, sys\nfor n in range(%d): os.write(1, b'%%d' %% n + b'x' * 99 + b'\\n')"


def refusing(daemon: Daemon, error: str, calls: str) -> Daemon:
    """Let the system refuse calls to a daemon, and to all that it starts."""
    daemon.command = [*REFUSER, error, calls, *OUTLAST]
    return daemon


async def write(daemon: Daemon, process: dict[str, Any], data: bytes) -> None:
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=data)


async def use_everything(daemon: Daemon) -> None:
    """Start processes, write and read, signal and kill."""
    tree = await daemon.sh("trap : TERM; setsid sleep 601 & echo $!; while :; do sleep 602; done")
    await daemon.wait_for_lines(tree, 1)
    (inner,) = map(int, await daemon.lines(tree))
    talk = await daemon.sh("echo out; echo err >&2; cat; exit 3", stdin_mode="pipe")
    await write(daemon, talk, b"in\n" * 30_000)
    await daemon.call("POST", f"/processes/{talk['id']}/stdin/close", 204)
    events = await asyncio.wait_for(daemon.drained(talk), DEADLINE_S)
    assert events.pop().kind == "eof"
    lines = [(event.data["stream"], event.data["line"]) for event in events]
    assert sorted(lines) == [("stderr", "err\n"), *[("stdout", "in\n")] * 30_000, ("stdout", "out\n")]
    assert (await daemon.get(talk))["exit_code"] == 3
    await daemon.call("POST", f"/processes/{tree['id']}/signal", 200, {"signal": "SIGTERM", "scope": "tree"})
    await wait_until_gone(inner)
    assert (await daemon.get(tree))["status"] == "running"
    await daemon.call("DELETE", f"/processes/{tree['id']}", 204)
    assert (await daemon.ended(tree))["signal"] == signal.SIGKILL
    short = await daemon.sh("sleep 603", timeout=0.1)
    assert (await daemon.ended(short))["reason"] == "timed_out"
    assert await health(daemon) == ""


@pytest.mark.parametrize(("error", "calls"), SUBSTITUTED)
async def test_a_call_that_is_refused_has_a_substitute(crashable_daemon: Daemon, error: str, calls: str) -> None:
    daemon = refusing(crashable_daemon, error, calls)
    await daemon.start()
    await use_everything(daemon)


@pytest.mark.parametrize(("error", "calls"), [("EPERM", ALL), ("ENOSYS", f"{ALL},clone3")], ids=["EPERM", "ENOSYS"])
async def test_many_calls_can_be_refused_at_once(state_dir: Path, error: str, calls: str) -> None:
    daemon = refusing(patched_daemon(state_dir, NO_CGROUPS), error, calls)
    try:
        await daemon.start()
        await use_everything(daemon)
    finally:
        await daemon.end_everything()


async def run_refused(error: str, calls: str, *command: str) -> tuple[int, str]:
    """Run a program to which calls are refused; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *REFUSER,
        *(error, calls, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("error", ["ENOSYS", pytest.param("EPERM", marks=pytest.mark.long)])
async def test_a_call_without_a_substitute_is_named_at_the_start(state_dir: Path, error: str) -> None:
    command = [*OUTLAST, "serve", "--state-dir", str(state_dir)]
    for call, name in NEEDED.items():
        code, said = await run_refused(error, call, *command)
        assert code == 1
        assert re.fullmatch(
            rf"Error: Outlast cannot work on this system: .*{re.escape(name)}.* fails \(.+\); .+\n", said
        )
    assert not state_dir.exists()


async def test_where_no_thread_can_start_the_reason_is_told(state_dir: Path) -> None:
    """The C library starts threads by clone3, and by clone only where that is refused with ENOSYS."""
    threads = "import threading; threading.Thread(target=print).start()"
    code, _ = await run_refused("EPERM", "clone3", sys.executable, "-c", threads)
    if code == 0:
        pytest.skip("this C library does not start threads by clone3")
    code, said = await run_refused("EPERM", "clone3", *OUTLAST, "init", "--state-dir", str(state_dir), "true")
    assert (code, "clone3(2) with ENOSYS" in said) == (1, True)


@pytest.mark.parametrize("calls", [pytest.param(NO_PIDFDS, marks=pytest.mark.long), f"splice,fallocate,{NO_PIDFDS}"])
async def test_a_shim_without_pidfds_can_be_upgraded_and_killed(crashable_daemon: Daemon, calls: str) -> None:
    daemon = refusing(crashable_daemon, "EPERM", calls)
    await daemon.start()
    talk = await daemon.sh("cat", stdin_mode="pipe")
    exits = await daemon.sh("read x; exit 4", stdin_mode="pipe")
    stays = await daemon.sh("sleep 604")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await write(daemon, talk, b"1\n")
    upgrade = ("shim", "upgrade", "--state-dir", str(daemon.state_dir))
    assert (await run_refused("EPERM", calls, *OUTLAST, *upgrade))[0] == 0
    await eventually(lambda: write_when_connected(daemon, exits, b"\n"))
    assert (await daemon.ended(exits))["exit_code"] == 4
    await write(daemon, talk, b"2\n")
    os.kill(shim, signal.SIGKILL)
    await wait_for_another_shim(daemon, shim)
    await eventually(lambda: write_when_connected(daemon, talk, b"3\n"))
    await daemon.wait_for_lines(talk, 3)
    await daemon.call("POST", f"/processes/{talk['id']}/stdin/close", 204)
    seen = await daemon.ended(talk)  # nobody but its parent knows how a process has ended, unless it is seen in time
    assert (seen["reason"], seen["exit_code"]) in {("lost", None), ("exited", 0)}
    assert await daemon.lines(talk) == ["1", "2", "3"]
    code, said = await run_refused("EPERM", calls, *OUTLAST, "shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, said) == (0, "1 running process ended; shim and daemon are down\n")
    assert not is_running(stays["pid"])


async def write_when_connected(daemon: Daemon, process: dict[str, Any], data: bytes) -> bool:
    """Write to a process unless the daemon has no shim now."""
    answer = await daemon.client.request("POST", f"/processes/{process['id']}/stdin", data=data)
    assert answer.status in {204, 503}
    return answer.status == 204


async def test_stored_output_is_freed_where_files_are_freed_only_as_a_whole(crashable_daemon: Daemon) -> None:
    daemon = refusing(crashable_daemon, "ENOSYS", "fallocate")
    await daemon.start()
    flood = await daemon.python(f"{LONG % 1_000_000}\nsys.stdin.read()", stdin_mode="pipe")
    await daemon.wait_for_lines(flood, 1_000_000, 60)
    shim = shim_pid(daemon.state_dir)
    kept = {}
    for link in Path(f"/proc/{shim}/fd").iterdir():
        if "memfd:outlast-output" in str(link.readlink()):
            kept[link.stat().st_ino] = link.stat().st_blocks * 512
    assert sum(kept.values()) < 8 << 20
    await daemon.call("POST", f"/processes/{flood['id']}/stdin/close", 204)
    assert (await daemon.ended(flood))["output"]["bytes"] == sum(100 + len(str(n)) for n in range(1_000_000))


UNREADABLE = """\
import errno, os
from outlast.shim.state import buffer
splice = os.splice
def refuse(*args, **kwargs):
    if os.path.exists({0!r}):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return splice(*args, **kwargs)
os.splice = refuse
"""


async def test_output_that_cannot_be_read_is_told_and_not_lost(state_dir: Path, tmp_path: Path) -> None:
    refuse = tmp_path / "refuse"
    daemon = patched_daemon(state_dir, UNREADABLE.format(str(refuse)))
    try:
        await daemon.start()
        refuse.touch()
        process = await daemon.sh("echo kept")
        wanted = f"cannot read the output of {process['id']} now: Input/output error"

        async def is_told() -> bool:
            return wanted in await health(daemon)

        await eventually(is_told)
        await daemon.kill()
        await daemon.start()
        await eventually(is_told)
        refuse.unlink()
        await daemon.ended(process)
        assert await daemon.lines(process) == ["kept"]
        assert await health(daemon) == ""
    finally:
        await daemon.end_everything()

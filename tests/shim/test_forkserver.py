"""The fork helper: its children are the shim's, and starts work without it, too."""

import ctypes
import errno
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harness.proc import forker_pid
from outlast.shim.launch import forkserver
from outlast.shim.launch.forkserver import ForkServer
from outlast.shim.launch.spawn import SpawnOutcome, Start, spawn
from outlast.wire.contract import Command
from tests.support.daemon import Daemon, shim_pid
from tests.support.waiting import eventually

LIMITS = (1024, 4096)
MARK = 1 << 62
OUTCOME_MS = 20_000


def command(text: str) -> Command:
    return Command(
        argv=["sh", "-c", text],
        env={"PATH": os.environ["PATH"]},
        working_dir="/",
        stdin=False,
        stdout=True,
        stderr=False,
        uid=None,
        gid=None,
        groups=None,
        timeout_ms=None,
        nice=None,
        limits={},
    )


def output_of(start: Start) -> bytes:
    """Open the gate, and return what the process prints until its end."""
    assert start.refused is None
    assert start.stdout is not None
    os.write(start.gate, b"g")
    assert select.select([start.outcome], [], [], OUTCOME_MS / 1000)[0]
    assert not SpawnOutcome(start.report).failed
    os.set_blocking(start.stdout, True)
    with os.fdopen(os.dup(start.stdout), "rb") as file:
        printed = file.read()
    assert os.waitpid(start.pid, 0)[1] == 0
    return printed


def close(start: Start) -> None:
    for fd in (start.gate, start.outcome, start.report, start.stdout, start.pidfd):
        if fd is not None:
            os.close(fd)


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer(Path("/"))
    yield server
    pid = forker_pid(os.getpid())
    server.give_up()
    if pid is not None:
        os.waitpid(pid, 0)


def helper_pid() -> int:
    """Return the pid of this process's fork helper."""
    pid = forker_pid(os.getpid())
    assert pid is not None
    return pid


def run(server: ForkServer, text: str) -> bytes:
    start = Start(command(text), group=None, open_files=LIMITS, mark=MARK)
    spawn([start], server)
    try:
        return output_of(start)
    finally:
        close(start)


def test_a_forked_process_is_a_child_of_the_caller(server: ForkServer) -> None:
    words = run(server, "echo $PPID $(ulimit -Sn) $(ulimit -Hn) $(ls /proc/self/fd | wc -w)").split()
    assert words == [str(os.getpid()).encode(), b"1024", b"4096", b"4"]  # 0, 1, 2, and the folder that `ls` reads


def test_all_processes_of_one_request_are_forked(server: ForkServer) -> None:
    starts = [Start(command(f"echo {n}"), group=None, open_files=LIMITS, mark=MARK) for n in range(40)]
    spawn(starts, server)
    assert [output_of(start) for start in starts] == [b"%d\n" % n for n in range(40)]
    for start in starts:
        close(start)


def test_a_large_command_is_forked(server: ForkServer) -> None:
    words = ["x" * 100_000] * 15
    start = Start(
        command("echo $#")._replace(argv=["sh", "-c", "echo $#", "sh", *words]),
        group=None,
        open_files=LIMITS,
        mark=MARK,
    )
    spawn([start], server)
    assert output_of(start) == b"15\n"
    close(start)


def test_a_killed_helper_is_replaced(server: ForkServer) -> None:
    assert run(server, "echo 1") == b"1\n"
    first = helper_pid()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert run(server, "echo 2") == b"2\n"
    assert helper_pid() != first


async def test_a_stopped_helper_is_killed(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(server, "echo 1") == b"1\n"
    monkeypatch.setattr(forkserver, "_ANSWER_S", 0.2)  # the helper is there: on a busy machine it takes longer to start
    first = helper_pid()
    os.kill(first, signal.SIGSTOP)
    start = Start(command("echo no"), group=None, open_files=LIMITS, mark=MARK)
    spawn([start], server)
    assert start.refused is not None
    assert start.refused.errno == errno.EAGAIN
    ended = await eventually(lambda: waited if (waited := os.waitpid(first, os.WNOHANG))[0] else None)
    assert ended == (first, signal.SIGKILL)
    assert run(server, "echo 2") == b"2\n"


def test_a_helper_of_another_version_is_not_used(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "HELLO", b"outlast forker 0\n")
    assert run(server, "echo $PPID") == b"%d\n" % os.getpid()
    assert not server.is_usable()


SECCOMP_ENOSYS = 0x00050000 | errno.ENOSYS
SECCOMP_ALLOW = 0x7FFF0000
SYS_CLONE3 = 435


def forbid_clone3() -> None:
    """Make clone3 fail with ENOSYS, as Docker's filter of system calls did for years."""
    rules = [(0x20, 0, 0, 0), (0x15, 0, 1, SYS_CLONE3), (0x06, 0, 0, SECCOMP_ENOSYS), (0x06, 0, 0, SECCOMP_ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = struct.pack("@HP", len(rules), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def test_without_clone3_the_caller_forks_by_itself() -> None:
    program = (
        "from tests.shim.test_forkserver import *\n"
        "forbid_clone3()\n"
        "server = ForkServer(Path('/'))\n"
        "assert server.is_usable()\n"
        "print([run(server, 'echo $PPID') == b'%d\\n' % os.getpid() for _ in range(2)], server.is_usable())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[True, True] False\n", done.stderr


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_shim_survives_the_end_of_its_helper(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    for number in range(3):
        process = await daemon.sh(f"echo {number}; exit {number}")
        assert (await daemon.ended(process))["exit_code"] == number
        pid = forker_pid(shim)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(partial(is_gone, pid))


async def test_the_helper_ends_with_its_shim(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    process = await daemon.sh("exec sleep 300")
    pid = forker_pid(shim)
    assert pid is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert Path(f"/proc/{process['pid']}").exists()

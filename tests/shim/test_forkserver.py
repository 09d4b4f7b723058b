"""The fork helper: its children are the shim's, starts work without it, and nothing waits for it."""

import asyncio
import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.proc import forker_pid
from outlast.linux import descriptors
from outlast.shim import starts
from outlast.shim.event_loop import Loop
from outlast.shim.kill.cgroup import CgroupRoot
from outlast.shim.launch import forkserver
from outlast.shim.launch.spawn import SpawnOutcome
from outlast.shim.starts import StartRequest, Starts
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDOUT
from outlast.shim.state.quota import BufferUsage
from outlast.wire.contract import GATE_BYTE, Command
from tests.support.daemon import Daemon, is_running, shim_children, shim_pid
from tests.support.waiting import DEADLINE_S, eventually

LIMITS = (1024, 4096)
MARK = 1 << 62
OUTCOME_MS = 20_000
TICK_S = 0.01


def command(text: str, *more: str) -> Command:
    return Command(
        argv=["sh", "-c", text, *more],
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


class Forking:
    """The starts of a shim, without the rest of it. `ticks` counts how often its loop had time for others."""

    def __init__(self, groups: CgroupRoot | None = None) -> None:
        self.ticks = 0
        self._loop = Loop(on_hangup=lambda: None)
        self.starts = Starts(
            self._loop,
            Path("/"),
            open_files=LIMITS,
            groups=groups,
            mark_of=lambda _run_key: MARK,
            make_child=lambda record, group: Child(1, record, group, BufferUsage()),
            on_forked=lambda _child: None,
            on_settled=lambda: None,
        )
        self._tick()

    def _tick(self) -> None:
        self.ticks += 1
        self._loop.call_later(TICK_S, self._tick)

    def until(self, is_over: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_over():
            assert time.monotonic() < deadline
            self._loop.run_once()

    def add(self, *commands: Command) -> list[Child | OSError]:
        """Ask for starts, and return the list of the answers, which come later."""
        answers: list[Child | OSError] = []
        for each in commands:
            self.starts.add(StartRequest({"id": "P"}, each), answers.append)
        self.starts.fork_next()
        return answers

    def run(self, *commands: Command) -> list[bytes]:
        """Start processes, and return what each prints."""
        answers = self.add(*commands)
        self.until(lambda: len(answers) == len(commands))
        return [output_of(answer) for answer in answers]


def output_of(child: Child | OSError) -> bytes:
    """Open the gate, return what the process prints until its end, and close all that it had."""
    assert isinstance(child, Child)
    pipe = child.streams[STDOUT].pipe
    assert pipe is not None
    os.write(child.gate, GATE_BYTE)
    assert select.select([child.outcome], [], [], OUTCOME_MS / 1000)[0]
    assert not SpawnOutcome(child.report).failed
    os.set_blocking(pipe, True)
    with os.fdopen(pipe, "rb") as file:
        printed = file.read()
    assert os.waitpid(child.pid, 0)[1] == 0
    for fd in (child.gate, child.outcome, child.report, child.pidfd):
        os.close(fd)
    child.streams[STDOUT].close()
    return printed


@pytest.fixture
def forking() -> Iterator[Forking]:
    with forking_in(None) as forking:
        yield forking


@contextlib.contextmanager
def forking_in(groups: CgroupRoot | None) -> Iterator[Forking]:
    before = children()  # of the process that runs the tests
    forking = Forking(groups)
    yield forking
    forking.starts._server.give_up()
    deadline = time.monotonic() + DEADLINE_S
    while children() != before:  # the helper; and who was left at a gate that is closed
        assert time.monotonic() < deadline
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        time.sleep(TICK_S)


def children() -> list[int]:
    own = os.getpid()
    return list(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))


def helper_pid() -> int:
    """Return the pid of this process's fork helper."""
    pid = forker_pid(os.getpid())
    assert pid is not None
    return pid


OWN = command("echo $PPID")
OWN_PID = b"%d\n" % os.getpid()


def test_a_forked_process_is_a_child_of_the_caller(forking: Forking) -> None:
    (words,) = forking.run(command("echo $PPID $(ulimit -Sn) $(ulimit -Hn) $(ls /proc/self/fd | wc -w)"))
    assert words.split() == [str(os.getpid()).encode(), b"1024", b"4096", b"4"]  # 0, 1, 2, and the folder of `ls`
    assert helper_pid()


def test_many_processes_are_forked(forking: Forking) -> None:
    assert forking.run(*(command(f"echo {n}") for n in range(40))) == [b"%d\n" % n for n in range(40)]


def test_large_commands_are_forked(forking: Forking) -> None:
    words = ["sh", *["x" * 100_000] * 15]
    assert forking.run(*[command("echo $#", *words)] * 20) == [b"15\n"] * 20


def test_a_killed_helper_is_replaced(forking: Forking) -> None:
    assert forking.run(OWN) == [OWN_PID]
    first = helper_pid()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert forking.run(OWN) == [OWN_PID]
    assert helper_pid() != first


def test_nothing_waits_for_a_stopped_helper(forking: Forking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large commands do not even fit into its socket. Each start succeeds with the next helper."""
    assert forking.run(OWN) == [OWN_PID]
    monkeypatch.setattr(forkserver, "_ANSWER_S", 20 * TICK_S)
    first = helper_pid()
    os.kill(first, signal.SIGSTOP)
    ticks = forking.ticks
    words = ["sh", *["x" * 100_000] * 15]
    assert forking.run(*[command("echo $#", *words)] * 3) == [b"15\n"] * 3
    assert forking.ticks > ticks + 5
    assert helper_pid() != first


DIES = "import os; os.kill(os.getpid(), 9)"
STOPS = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
LIES = "import sys, os; os.write(int(sys.argv[2]), b'outlast forker 0\\n'); os.read(int(sys.argv[2]), 1)"


@pytest.mark.parametrize("program", [DIES, STOPS])
def test_a_helper_that_does_not_start_is_done_without_for_a_while(
    forking: Forking, program: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forkserver, "_PAUSE_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(forkserver, "_PROGRAM", program)
        if program == STOPS:
            patched.setattr(forkserver, "_HELLO_S", 10 * TICK_S)
        assert forking.run(OWN) == [OWN_PID]
        assert forker_pid(os.getpid()) is None
    said = capfd.readouterr().err
    assert "before it had greeted" in said
    assert ("has ended" if program == DIES else "does not answer") in said
    assert forking.run(OWN) == [OWN_PID]
    assert helper_pid()


def test_a_helper_of_another_version_is_not_used(forking: Forking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "_PROGRAM", LIES)
    assert forking.run(OWN, OWN) == [OWN_PID] * 2
    monkeypatch.undo()
    assert forking.run(OWN) == [OWN_PID]
    assert forker_pid(os.getpid()) is None


def test_each_start_is_forked_once_however_often_the_helper_is_killed(forking: Forking, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    count = 150
    answers = forking.add(*(command(f"echo {n} >> {ran}; echo {n}") for n in range(count)))
    kills = 0

    def kill_and_look() -> bool:
        nonlocal kills
        pid = forker_pid(os.getpid())
        if pid is not None and len(answers) > 8 * kills:
            os.kill(pid, (signal.SIGKILL, signal.SIGTERM)[kills % 2])
            kills += 1
        return len(answers) == count

    forking.until(kill_and_look)
    assert kills > 2
    assert [output_of(answer) for answer in answers] == [b"%d\n" % n for n in range(count)]
    assert sorted(map(int, ran.read_text().split())) == list(range(count))


def test_nothing_is_left_of_a_start_that_runs_out_of_descriptors(
    forking: Forking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that happens: here, nothing is kept in reserve."""
    monkeypatch.setattr(starts, "_DESCRIPTORS_OF_ONE", 1)
    monkeypatch.setattr(descriptors, "reserve", lambda: 0)
    assert forking.run(OWN) == [OWN_PID]
    before = open_count()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes = set()
    for room in range(1, 30):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, limits[1]))
        answers = forking.add(OWN)
        forking.until(partial(len, answers))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        (answer,) = answers
        outcomes.add(answer.errno if isinstance(answer, OSError) else output_of(answer))
        assert open_count() == before
    assert outcomes == {errno.EMFILE, OWN_PID}


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


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
        "forking = Forking()\n"
        "forked = OWN._replace(nice=os.getpriority(os.PRIO_PROCESS, 0))\n"
        "print([forking.run(forked, forked) == [OWN_PID] * 2 for _ in range(2)], forker_pid(os.getpid()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[True, True] None\n", done.stderr


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_stopped_helper_delays_nobody_else(daemon: Daemon) -> None:
    """The rest of the shim goes on: output, signals and ends of other processes. The start succeeds."""
    shim = shim_pid(daemon.state_dir)
    talks = await daemon.sh("trap 'echo heard' USR1; while :; do echo x; sleep 0.05; done")
    await daemon.wait_for_lines(talks, 1)
    helper = forker_pid(shim)
    assert helper is not None
    os.kill(helper, signal.SIGSTOP)
    start = asyncio.create_task(daemon.sh("echo started; exit 7"))
    await asyncio.sleep(0)
    await daemon.call("POST", f"/processes/{talks['id']}/signal", 200, {"signal": "USR1"})

    async def was_heard() -> bool:
        return "heard" in await daemon.lines(talks)

    await eventually(was_heard)
    await daemon.call("DELETE", f"/processes/{talks['id']}", 204)
    process = await start
    assert (await daemon.ended(process))["exit_code"] == 7
    assert await daemon.lines(process) == ["started"]
    assert not is_running(helper)


async def test_starts_outlive_the_kills_of_their_helper(daemon: Daemon, tmp_path: Path) -> None:
    """Each start that is accepted is known, and has run, exactly once; nothing else has."""
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    ran = tmp_path / "ran"
    starts = [asyncio.create_task(daemon.sh(f"echo {n} >> {ran}")) for n in range(60)]
    killed = set()
    while not all(start.done() for start in starts):
        pid = forker_pid(shim)
        if pid is not None and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
    processes = [await start for start in starts]
    assert killed
    for process in processes:
        await daemon.ended(process)
    assert sorted(map(int, ran.read_text().split())) == list(range(60))
    listed = (await daemon.call("GET", "/processes", 200))["processes"]
    assert sorted(each["id"] for each in listed) == sorted(each["id"] for each in processes)
    await eventually(lambda: shim_children(daemon.state_dir) == set())
    assert (await daemon.ended(await daemon.sh("exit 3")))["exit_code"] == 3


async def test_a_start_whose_daemon_has_gone_is_undone(daemon: Daemon, tmp_path: Path) -> None:
    """The next daemon, which connects while the helper is stopped, would never hear of it."""
    ran = tmp_path / "ran"
    first = await daemon.sh("exit 0")
    await daemon.ended(first)
    shim = shim_pid(daemon.state_dir)
    helper = forker_pid(shim)
    assert helper is not None
    os.kill(helper, signal.SIGSTOP)
    before = len(os.listdir(f"/proc/{shim}/fd"))
    start = asyncio.create_task(daemon.run("touch", str(ran)))
    await eventually(lambda: len(os.listdir(f"/proc/{shim}/fd")) > before + 5, "the start is prepared")
    await daemon.kill()
    with pytest.raises(aiohttp.ClientError):
        await start
    await daemon.start()
    await eventually(lambda: not is_running(helper))
    assert (await daemon.ended(await daemon.sh("exit 3")))["exit_code"] == 3
    await eventually(lambda: shim_children(daemon.state_dir) == set())
    assert not ran.exists()
    listed = (await daemon.call("GET", "/processes", 200))["processes"]
    assert len(listed) == 2
    assert listed[1]["id"] == first["id"]


async def test_the_helper_ends_with_its_shim(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    process = await daemon.sh("exec sleep 300")
    pid = forker_pid(shim)
    assert pid is not None
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: is_gone(pid))
    assert Path(f"/proc/{process['pid']}").exists()

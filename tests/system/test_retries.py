"""Clients repeat calls that get 502, 503 or 504. Those say that nothing was done, wherever a call fails."""

import array
import asyncio
import fcntl
import os
import signal
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from outlast.testing.storage.faulty import Mode
from tests.support.daemon import PYTHON, Daemon, is_running, shim_pid
from tests.support.faulty import FaultyStore
from tests.support.health import wait_until_healthy
from tests.support.waiting import eventually

# The shim kills itself once, at the point that a file names: before or after a command, or at a failpoint.
DIES_ONCE = """
import os, pathlib, signal
FILE = pathlib.Path({path!r})

def may_die(point):
    if FILE.exists() and FILE.read_text() == point:
        FILE.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

import outlast.failpoints
outlast.failpoints.failpoint = may_die
from outlast.shim.connection.commands import CommandHandler
handle = CommandHandler.handle

def handle_or_die(self, connection, kind, payload):
    may_die("before " + kind.name)
    handle(self, connection, kind, payload)
    may_die("after " + kind.name)

CommandHandler.handle = handle_or_die
"""
# Notes what is done to it.
SUBJECT = """
import os, signal, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
signal.signal(signal.SIGUSR1, lambda *_: os.write(log, b"signalled\\n"))
os.write(log, b"started\\n")
while data := os.read(0, 1 << 16):
    os.write(log, b"read %d\\n" % len(data))
os.write(log, b"end of input\\n")
while True:
    signal.pause()
"""
# Reads its input once it is told to, and says how much there was.
LATE_READER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
size = 0
while data := os.read(0, 1 << 16):
    size += len(data)
print(size, flush=True)
"""
NOTHING_WAS_DONE = {502, 503, 504}
INPUT_BYTES = 300_000
PIPE_BYTES = 64 << 10
STARTS = ["start", "run", "restart"]
ENDS = ["restart", "delete", "purge"]
SHIM_POINTS = {
    "before SIGNAL": ["signal", *ENDS],
    "after SIGNAL": ["signal", *ENDS],
    "before KILL": ENDS,
    "after KILL": ENDS,
    "before STDIN": ["stdin"],
    "after STDIN": ["stdin"],
    "before CLOSE_STDIN": ["stdin/close"],
    "after CLOSE_STDIN": ["stdin/close"],
    "before ATTACH": STARTS,
    "shim-forked": STARTS,
    "shim-opened": STARTS,
    "shim-reaped": ENDS,
}
"""Points at which the shim dies, and the calls that reach them."""
OVER_A_DEATH = {"signal": 500, "stdin": 500, "stdin/close": 204, "restart": 200, "delete": 204, "purge": 204}
"""Their statuses. The next shim does what can be done twice; of the others nobody knows whether they were done."""
STORE_FAULTS: dict[str, dict[str, Any]] = {
    "commits": {"mode": Mode.ERR},
    "reads and commits": {"mode": Mode.ERR, "reads": True},
    "torn, all stored": {"mode": Mode.TEAR},
    "torn, nothing stored": {"mode": Mode.TEAR, "part": 0},
}
CALLS = ["start", "run", "signal", "stdin", "stdin/close", "restart", "delete", "purge"]


@pytest.fixture
def store(tmp_path: Path, state_dir: Path) -> FaultyStore:
    return FaultyStore(tmp_path, state_dir)


@pytest.fixture
async def daemon(state_dir: Path, store: FaultyStore) -> AsyncIterator[Daemon]:
    folder = state_dir.parent / "patch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DIES_ONCE.format(path=str(folder.parent / "dies-at")))
    environment = store.environment
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    running = Daemon(state_dir, **environment)
    try:
        await running.start()
        yield running
    finally:
        store.mend()
        dies_at(running).unlink(missing_ok=True)
        await running.end_everything()


def dies_at(daemon: Daemon) -> Path:
    return daemon.state_dir.parent / "dies-at"


class Attempt:
    """One call to a process of its own, and what it did."""

    def __init__(self, daemon: Daemon, call: str, log: Path) -> None:
        self._daemon = daemon
        self._call = call
        self._log = log
        self._words: dict[str, Any] = {"command": PYTHON, "args": ["-c", SUBJECT, str(log)], "stdin_mode": "pipe"}
        self._process: dict[str, Any] = {}
        self._before: Any = None

    async def prepare(self) -> None:
        if self._call not in {"start", "run"}:
            self._process = await self._daemon.run(**self._words, restart={"policy": "never"})
            await eventually(self._log.exists)
            await eventually(lambda: self._log.read_text() == "started\n")
        self._before = self._state()

    def _state(self) -> Any:
        log = self._log.read_text() if self._log.exists() else ""
        return log, is_running(self._process["pid"]) if self._process else None

    async def make(self) -> int:
        """Make the call, and return its status."""
        path = f"/processes/{self._process.get('id')}"
        calls: dict[str, tuple[str, str, dict[str, Any]]] = {
            "start": ("POST", "/processes", {"json": self._words}),
            "run": ("POST", "/processes/run", {"json": self._words}),
            "signal": ("POST", f"{path}/signal", {"json": {"signal": "SIGUSR1"}}),
            "stdin": ("POST", f"{path}/stdin", {"data": b"x" * 100}),
            "stdin/close": ("POST", f"{path}/stdin/close", {}),
            "restart": ("POST", f"{path}/restart", {}),
            "delete": ("DELETE", path, {}),
            "purge": ("DELETE", f"{path}?purge=true", {}),
        }
        method, path, options = calls[self._call]
        async with self._daemon.session.request(method, self._daemon.client.address(path), **options) as response:
            if response.status not in {200, 201, 202, 204}:
                code = (await response.json())["code"]
                assert code in {"UNAVAILABLE", "INTERRUPTED", "NOT_RUNNING", "NOT_FOUND", "STDIN_NOT_WRITABLE"}, code
                assert (response.status in NOTHING_WAS_DONE) == (code == "UNAVAILABLE")
            return response.status

    def check(self) -> None:
        assert self._state() == self._before, f"{self._call} got 503 and was done"


async def check_all(
    daemon: Daemon,
    tmp_path: Path,
    fail: Callable[[], None],
    mend: Callable[[], Awaitable[None]],
    calls: Sequence[str] = CALLS,
) -> dict[str, int]:
    """Let each call fail, and return their statuses."""
    statuses = {}
    attempts = []
    for number, call in enumerate(calls):
        attempt = Attempt(daemon, call, tmp_path / f"log-{number}")
        await attempt.prepare()
        fail()
        statuses[call] = await attempt.make()
        await mend()
        if statuses[call] in NOTHING_WAS_DONE:
            attempts.append(attempt)
    await daemon.ended(await daemon.run("true"))  # what was left to do is done before this
    for attempt in attempts:
        attempt.check()
    return statuses


@pytest.mark.long
@pytest.mark.parametrize("point", SHIM_POINTS)
async def test_nothing_is_done_by_a_call_that_says_so_when_the_shim_dies(
    daemon: Daemon, tmp_path: Path, point: str
) -> None:
    async def mend() -> None:
        assert not dies_at(daemon).exists(), "the point was not reached"
        await wait_until_healthy(daemon)

    def fail() -> None:
        dies_at(daemon).write_text(point)

    statuses = await check_all(daemon, tmp_path, fail, mend, SHIM_POINTS[point])
    if SHIM_POINTS[point] is not STARTS:
        assert statuses == {call: OVER_A_DEATH[call] for call in statuses}


@pytest.mark.long
@pytest.mark.parametrize("fault", STORE_FAULTS)
async def test_nothing_is_done_by_a_call_that_says_so_when_the_store_fails(
    daemon: Daemon, store: FaultyStore, tmp_path: Path, fault: str
) -> None:
    async def mend() -> None:
        store.mend()
        await wait_until_healthy(daemon)

    statuses = await check_all(daemon, tmp_path, lambda: store.inject(**STORE_FAULTS[fault]), mend)
    assert statuses["start"] == statuses["run"] == statuses["restart"] == 503, statuses


async def test_a_shim_that_is_gone_is_said_to_have_done_nothing(daemon: Daemon, tmp_path: Path) -> None:
    def kill_shim() -> None:
        shim = shim_pid(daemon.state_dir)
        assert shim is not None
        os.kill(shim, signal.SIGKILL)

    await check_all(daemon, tmp_path, kill_shim, lambda: wait_until_healthy(daemon))


async def test_input_that_was_written_in_part_is_not_written_again(daemon: Daemon) -> None:
    """The answer says how much was written, and has a status that no client repeats."""
    process = await daemon.python(LATE_READER, stdin_mode="pipe")
    await daemon.wait_for_lines(process, 1)
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    path = f"/processes/{process['id']}/stdin"
    writing = asyncio.create_task(daemon.call("POST", path, 500, data=b"x" * INPUT_BYTES))
    await eventually(lambda: input_size(process["pid"]) == PIPE_BYTES)
    os.kill(shim, signal.SIGKILL)
    answer = await writing
    assert answer["code"] == "INTERRUPTED"
    await wait_until_healthy(daemon)
    await daemon.call("POST", f"{path}/close", 204)
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": "SIGUSR1"})
    await daemon.ended(process)
    _, size = await daemon.lines(process)
    assert answer["written_bytes"] <= int(size) <= answer["written_bytes_at_most"] < INPUT_BYTES


def input_size(pid: int) -> int:
    """Return how much is in the pipe that is the standard input of a process."""
    size = array.array("i", [0])
    fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, termios.FIONREAD, size)
    finally:
        os.close(fd)
    return size[0]

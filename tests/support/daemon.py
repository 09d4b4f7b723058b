"""A real daemon in a process of its own, and calls to it."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import aiohttp

from harness.http_client import Event, HttpClient
from harness.plain_sql import register_sqlar_uncompress
from harness.proc import forker_pid
from outlast.config import Settings
from outlast.daemon.shutdown import shutdown
from outlast.failpoints import VARIABLE
from outlast.linux.marks import read_mark
from outlast.shim.kill.cgroup import folder_name
from outlast.wire.identity import load_identity, make_mark
from tests.support.waiting import DEADLINE_S, eventually
from tests.support.warm import ForkedCommand, can_fork

# What the shim marks each run's processes with.
_KEYS = "SELECT process_id || iif(run = 1, '', '.' || run) FROM runs"
OUTLAST = [sys.executable, "-m", "outlast"]
PYTHON = sys.executable
_COMMAND_DEADLINE_S = DEADLINE_S + 20
# No test speaks TLS, and aiohttp reads all of the machine's certificates when it is imported.
QUICK = {"SSL_CERT_FILE": os.devnull}


class Daemon:
    """`outlast serve` for one state folder. It can be killed and started again."""

    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self.environment = environment
        self.command = OUTLAST
        self.process: asyncio.subprocess.Process | ForkedCommand | None = None
        self.url = ""
        self.stderr = b""
        self._client: HttpClient | None = None

    # ---- life

    async def start(self, *flags: str) -> None:
        """Start it and wait until it says that it listens."""
        await self.launch(*flags)
        line = await self.announcement()
        assert line.startswith("listening on "), (line, self.log)

    async def launch(self, *flags: str) -> None:
        """Start it."""
        with (self.state_dir.parent / "daemon.log").open("ab") as log:
            listen = [] if "--listen" in flags else ["--listen", "127.0.0.1:0"]
            args = ["serve", *listen, "--state-dir", str(self.state_dir), *flags]
            env = {**os.environ, **QUICK, **self.environment}
            if self.command is OUTLAST and can_fork(self.environment):
                self.process = await ForkedCommand.start(args, env, stderr=log.fileno())
                return
            self.process = await asyncio.create_subprocess_exec(
                *self.command, *args, stdout=asyncio.subprocess.PIPE, stderr=log, env=env
            )

    async def announcement(self) -> str:
        """Wait until it says that it listens, and return what it says; empty: it ended before."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S)).decode()
        self.url = line.split()[-1] if line else ""
        return line

    @property
    def log(self) -> str:
        """Read the log of all daemons of this state folder."""
        return (self.state_dir.parent / "daemon.log").read_text()

    @property
    def pid(self) -> int:
        """Return the pid of the daemon."""
        assert self.process is not None
        return self.process.pid

    async def died(self) -> None:
        """Wait until it has killed itself at the point that its environment names, and forget where that was."""
        assert self.process is not None
        assert await asyncio.wait_for(self.process.wait(), DEADLINE_S) == -signal.SIGKILL, self.environment
        await self.stop(0)
        self.environment.pop(VARIABLE, None)

    async def kill(self) -> None:
        """SIGKILL the daemon, and nothing else."""
        await self.stop(signal.SIGKILL)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the daemon and wait for its end; return its exit code."""
        assert self.process is not None
        await self.hang_up()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)  # asyncio's send_signal may reap it, and then its exit code is lost
        code = await asyncio.wait_for(self.process.wait(), DEADLINE_S)
        close_pipes(self.process)
        self.process = None
        return code

    async def end_everything(self) -> None:
        """End daemon, processes and shim: all that `outlast shutdown` does, less an interpreter for each test."""
        await self.hang_up()
        if self.process is not None:
            await self.stop(signal.SIGTERM if self.process.returncode is None else 0)
        async with asyncio.timeout(2 * DEADLINE_S):
            await shutdown(Settings(state_dir=str(self.state_dir), stop_grace_ms=0))

    # ---- calls

    @property
    def token(self) -> str:
        """As given, or as the state folder has it."""
        if "OUTLAST_TOKEN" in self.environment:
            return self.environment["OUTLAST_TOKEN"]
        return (self.state_dir / "token").read_text().strip()

    @property
    def client(self) -> HttpClient:
        """Return a client for the daemon that listens now, or did last."""
        if self._client is None:
            self._client = HttpClient(self.url, self.token)
        self._client.url = self.url
        return self._client

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return a plain HTTP session whose calls carry the token."""
        return self.client.session

    async def hang_up(self) -> None:
        """Close the connections of the client."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def call(
        self, method: str, path: str, status: int, body: Any = None, *, data: Any = None, **headers: str
    ) -> Any:
        """Make a call below /api/v1, check its status, and return its JSON (None when it has no body)."""
        return await self.client.call(method, path, status, body=body, data=data, headers=headers)

    async def run(self, command: str, *args: str, **fields: Any) -> dict[str, Any]:
        """Start a process."""
        body = {"command": command, "args": list(args), **fields}
        started: dict[str, Any] = await self.call("POST", "/processes", 201, body)
        return started

    async def sh(self, script: str, **fields: Any) -> dict[str, Any]:
        """Start a shell script."""
        return await self.run("sh", "-c", script, **fields)

    async def python(self, program: str, *args: str, **fields: Any) -> dict[str, Any]:
        """Start a Python program."""
        return await self.run(PYTHON, "-c", program, *args, **fields)

    async def get(self, process: dict[str, Any]) -> dict[str, Any]:
        """Look at a process."""
        seen: dict[str, Any] = await self.call("GET", f"/processes/{process['id']}", 200)
        return seen

    async def ended(self, process: dict[str, Any]) -> dict[str, Any]:
        """Wait until a process has ended and all its output is there."""
        async with self.client.stream(f"/processes/{process['id']}/output/follow?tail=0") as content:
            async for _ in content.iter_any():  # events of a flood are not worth parsing for that
                pass
        seen = await self.get(process)
        assert seen["status"] != "running"
        return seen

    async def wait_for_lines(self, process: dict[str, Any], count: int, deadline_s: float = DEADLINE_S) -> None:
        """Wait until `count` lines of a process are there."""

        async def has_lines() -> bool:
            lines: int = (await self.get(process))["output"]["lines"]
            return lines >= count

        await eventually(has_lines, f"{count} lines of {process['id']}", deadline_s)

    async def drained(self, process: dict[str, Any], stream: str = "output") -> list[Event]:
        """Follow a process to the end of its output."""
        return [event async for event in self.follow(process, stream)]

    async def follow(
        self, process: dict[str, Any], stream: str = "output", query: str = "", **headers: str
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a follow stream, `eof` included."""
        path = f"/processes/{process['id']}/{stream}/follow{query}"
        async with contextlib.aclosing(self.client.follow(path, headers=headers)) as events:
            async for event in events:
                yield event

    async def raw(self, process: dict[str, Any], stream: str = "output", query: str = "") -> bytes:
        """Read the exact bytes of a process's output."""
        return await self.client.raw(f"/processes/{process['id']}/{stream}{query}")

    async def lines(self, process: dict[str, Any], stream: str = "output", query: str = "") -> list[str]:
        """Read lines of a process's output."""
        answer = await self.call("GET", f"/processes/{process['id']}/{stream}{query}", 200)
        lines: list[str] = answer["lines"]
        assert answer["line_count"] == len(lines)
        return lines

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database file, as an operator does."""
        with contextlib.closing(sqlite3.connect(self.state_dir / "outlast.db")) as connection:
            register_sqlar_uncompress(connection)
            return connection.execute(query, parameters).fetchall()


def close_pipes(process: asyncio.subprocess.Process | ForkedCommand) -> None:
    """Close what a process that has ended leaves open, also where a child of it still holds the other ends."""
    if isinstance(process, ForkedCommand):
        process.close()
    else:
        cast("Any", process)._transport.close()


async def outlast(*args: str, **environment: str) -> tuple[int, str]:
    """Run the command to its end; return its exit code and what it printed on both streams."""
    env = {**os.environ, **QUICK, **environment}
    if can_fork(environment):
        return await _forked(args, env)
    process = await asyncio.create_subprocess_exec(
        *OUTLAST,
        *args,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _COMMAND_DEADLINE_S)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode()


async def _forked(args: tuple[str, ...], env: dict[str, str]) -> tuple[int, str]:
    process = await ForkedCommand.start(args, env)
    try:
        async with asyncio.timeout(_COMMAND_DEADLINE_S):
            output = await process.stdout.read()
            return await process.wait(), output.decode()
    except TimeoutError:
        process.kill()
        raise
    finally:
        process.close()


def pids() -> list[int]:
    """Every process of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_running(pid: int) -> bool:
    """Tell whether a process exists, zombies apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def shim_pid(state_dir: Path) -> int | None:
    """The shim of a state folder."""
    for pid in pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"outlast.shim" in words and os.fsencode(state_dir) in words:
                return pid
    return None


async def wait_until_gone(pid: int) -> None:
    """Wait until a process does not exist any more, but for a zombie."""
    await eventually(lambda: not is_running(pid))


async def wait_for_another_shim(daemon: Daemon, shim: int) -> None:
    """Wait until another shim than `shim` has taken its place."""
    await eventually(lambda: shim_pid(daemon.state_dir) not in {None, shim})


def shim_children(state_dir: Path) -> set[int]:
    """The processes that run under the shim of a state folder, without what forks for it."""
    shim = shim_pid(state_dir)
    children = set(map(int, Path(f"/proc/{shim}/task/{shim}/children").read_text().split()))
    return {pid for pid in children - {forker_pid(shim)} if is_running(pid)}


def group_folders(state_dir: Path) -> list[Path]:
    """Find the folders of control groups of a state folder: one, or none."""
    try:
        name = folder_name(state_dir)
    except FileNotFoundError:  # it was never made, or its disk is gone
        return []
    mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    return [Path(path) / name for root in roots for path, folders, _ in os.walk(root) if name in folders]


def left_over(state_dir: Path) -> list[str]:
    """List what still runs for a state folder: daemon or shim (they name it), or a process that one of them started."""
    ids: set[bytes] = set()
    marks: set[int | None] = set()
    database = state_dir / "outlast.db"
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as connection, contextlib.suppress(sqlite3.Error):
            keys = [row[0] for row in connection.execute(_KEYS)]
            ids = {f"OUTLAST_PROCESS_ID={key}".encode() for key in keys}
            marks = {make_mark(load_identity(state_dir).secret, key) for key in keys}
    found = [str(path) for path in group_folders(state_dir)]
    for pid in pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            environment = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
            if (os.fsencode(state_dir) in words and pid != os.getpid()) or environment & ids or read_mark(pid) in marks:
                found.append(f"{pid}: {b' '.join(words).decode(errors='replace')}")
    return found

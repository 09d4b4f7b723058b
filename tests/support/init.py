"""A real `outlast init`: as PID 1 of a namespace of its own, or as an ordinary process."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from outlast.linux import lock
from outlast.wire.contract import DAEMON_LOCK_NAME, SHIM_LOCK_NAME
from tests.support.daemon import QUICK, Daemon, close_pipes, outlast, pids
from tests.support.waiting import DEADLINE_S

PROGRAM = str(Path(sys.executable).with_name("outlast"))
_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def need_namespaces() -> None:
    """Skip the test where no PID namespace can be had; in CI, fail."""
    if subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode != 0:
        if "CI" in os.environ:
            pytest.fail("CI must be able to make a PID namespace")
        pytest.skip("no PID namespace can be made here (root is needed)")


class Init(Daemon):
    """`outlast init -- outlast serve` for one state folder. All pids are those that the test sees."""

    def __init__(self, state_dir: Path, *, is_pid_1: bool, **environment: str) -> None:
        super().__init__(state_dir, **environment)
        self.is_pid_1 = is_pid_1
        self.before: list[str] = []
        self.output = ""

    async def start(self, *flags: str) -> None:
        """Start it, and wait until the daemon listens."""
        await self.launch(PROGRAM, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(self.state_dir), *flags)
        await self.comes_up()

    async def launch(self, *command: str, flags: Sequence[str] = (), **options: Any) -> None:
        """Start it with `command` for a daemon, and wait for nothing."""
        with (self.state_dir.parent / "daemon.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.before,
                *(_UNSHARE if self.is_pid_1 else []),
                *(PROGRAM, "init", *flags, "--", *command),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **QUICK, **self.environment},
                start_new_session=True,
                **options,
            )

    async def comes_up(self) -> None:
        """Wait until the next daemon says that it listens."""
        await self.hang_up()
        assert self.process is not None
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S)
        assert line.startswith(b"listening on "), (line, self.log)
        self.url = line.split()[-1].decode()

    @property
    def init_pid(self) -> int:
        """Return the pid of the shim."""
        pid = lock.holder(self.state_dir / SHIM_LOCK_NAME)
        assert pid is not None
        return pid

    @property
    def daemon_pid(self) -> int:
        """Return the pid of the daemon."""
        pid = lock.holder(self.state_dir / DAEMON_LOCK_NAME)
        assert pid is not None
        return pid

    def signal(self, how: str) -> None:
        """Send SIGTERM or SIGINT; `Ctrl-C` reaches the whole process group, as from a terminal (but not `unshare`)."""
        assert self.process is not None
        number = signal.SIGTERM if how.startswith("SIGTERM") else signal.SIGINT
        targets = [lock.holder(self.state_dir / SHIM_LOCK_NAME)]
        if how.startswith("Ctrl-C"):
            targets = [pid for pid in pids() if _group(pid) == self.process.pid]
        for pid in targets:
            if pid is not None and not (self.is_pid_1 and pid == self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def outer(self, pid: int) -> int | None:
        """Translate a pid that a process of the init's has for itself; None: there is none."""
        if not self.is_pid_1:
            return pid if Path(f"/proc/{pid}").exists() else None
        namespace = Path(f"/proc/{self.init_pid}/ns/pid").readlink()
        for found in pids():
            with contextlib.suppress(OSError):
                (pids_of_it,) = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{found}/status").read_text(), re.MULTILINE)
                if pids_of_it.split()[-1] == str(pid) and Path(f"/proc/{found}/ns/pid").readlink() == namespace:
                    return found
        return None

    def zombies(self) -> list[int]:
        """Children of the init that have ended and are not reaped."""
        children = Path(f"/proc/{self.init_pid}/task/{self.init_pid}/children").read_text().split()
        found = []
        for pid in map(int, children):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    found.append(pid)
        return found

    async def ends(self) -> int:
        """Wait for its end, and return its exit code; `output` is what was printed and not read yet."""
        await self.hang_up()
        assert self.process is not None
        assert self.process.stdout is not None
        code = await asyncio.wait_for(self.process.wait(), DEADLINE_S)
        self.output = (await asyncio.wait_for(self.process.stdout.read(), DEADLINE_S)).decode()
        close_pipes(self.process)
        self.process = None
        return code

    async def end_everything(self) -> None:
        """End it, if it has not ended, however that can be done."""
        await self.hang_up()
        if self.process is None:
            return
        if self.process.returncode is None:
            with contextlib.suppress(AssertionError):
                os.kill(self.init_pid, signal.SIGTERM)
        try:
            await self.ends()
        except TimeoutError:
            self.process.kill()
            await self.ends()
            await outlast("shutdown", "--state-dir", str(self.state_dir))
            raise


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None

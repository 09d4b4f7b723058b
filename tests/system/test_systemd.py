"""The unit files: what systemd itself says of them, and what a real one does with them."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, close_pipes
from tests.support.init import PROGRAM
from tests.support.waiting import DEADLINE_S, eventually

CONFIG = Path(__file__).parent.parent.parent / "config"
UNITS = ("outlast.service", "outlast-shutdown.service")
SYSTEMD = Path("/lib/systemd/systemd")
# A manager of its own, which sees no other, in cgroups of its own, and whose every process ends with the first.
MANAGER = f"""
for group; do echo 0 > $group/cgroup.procs || exit; done
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user || exit
{SYSTEMD} --user & wait
"""
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def write_units(folder: Path, state_dir: Path, *more: str) -> None:
    """Write the unit files as an operator would change them: where the program and the state folder are."""
    folder.mkdir(parents=True)
    for name in UNITS:
        text = (CONFIG / name).read_text()
        assert "=/usr/local/bin/outlast " in text
        text = text.replace("/usr/local/bin/outlast", PROGRAM).replace("/var/lib/outlast", str(state_dir))
        for line in more:
            text = text.replace("[Service]\n", f"[Service]\n{line}\n")
        (folder / name).write_text(text)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    write_units(tmp_path / "units", tmp_path)
    command = ["systemd-analyze", "verify", *(str(tmp_path / "units" / name) for name in UNITS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


class Manager(Daemon):
    """A daemon that a real systemd runs as `outlast.service`."""

    def __init__(self, state_dir: Path, folder: Path) -> None:
        super().__init__(state_dir)
        self.folder = folder

    async def run_inside(self, *command: str) -> tuple[int, str]:
        """Run a command in the manager's namespaces; return its exit code and what it printed."""
        assert self.process is not None
        parent = self.process.pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--mount", "--pid", "--target", child, *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environ,
        )
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def systemctl(self, *arguments: str) -> str:
        """Tell the manager to do something, and return what it says."""
        await self.hang_up()
        code, output = await self.run_inside("systemctl", "--user", *arguments)
        assert code == 0, (arguments, output, (self.folder / "systemd.log").read_text())
        return output.strip()

    async def shows(self, name: str) -> str:
        """Look at a property of the unit."""
        return await self.systemctl("show", "--value", "--property", name, "outlast")

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of the manager and of its clients."""
        own = {"XDG_RUNTIME_DIR": "/run/user", "XDG_CONFIG_HOME": str(self.folder), "HOME": str(self.folder)}
        return {**os.environ, **own}


@pytest.fixture
async def manager(state_dir: Path, tmp_path: Path) -> AsyncIterator[Manager]:
    """A manager with our units loaded and not started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    made = Manager(state_dir, tmp_path)
    made.url = f"http://{address}"
    state_dir.mkdir(mode=0o700)
    write_units(tmp_path / "systemd" / "user", state_dir, f"Environment=OUTLAST_LISTEN={address}")
    if not SYSTEMD.exists() or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no systemd can be run here")
    groups = _make_groups(f"outlast-test-{os.getpid()}-{tmp_path.name}")
    with (tmp_path / "systemd.log").open("wb") as log:
        made.process = await asyncio.create_subprocess_exec(
            *UNSHARE, "sh", "-c", MANAGER, "sh", *groups, stdout=log, stderr=log, env=made.environ
        )
    try:

        async def is_up() -> bool:
            with contextlib.suppress(ValueError, AssertionError):
                return await made.systemctl("is-system-running") in {"running", "degraded"}
            return made.process is None or made.process.returncode is not None

        await eventually(is_up)
        if made.process.returncode is not None:
            pytest.skip(f"no systemd can be run here: {(tmp_path / 'systemd.log').read_text()}")
        yield made
    finally:
        await made.hang_up()
        with contextlib.suppress(ProcessLookupError):
            made.process.kill()
        await made.process.wait()
        close_pipes(made.process)
        await eventually(lambda: all(_remove(group) for group in groups))


def _make_groups(name: str) -> list[Path]:
    """Make a group below our own in each hierarchy that systemd uses; none where that is not allowed."""
    found = []
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd")):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            own = root / path.lstrip("/")
            is_of_this_root = number == "0" if root.name != "systemd" else controllers == "name=systemd"
            if is_of_this_root and (own / "cgroup.procs").exists():
                with contextlib.suppress(OSError):
                    (own / name).mkdir()
                    found.append(own / name)
    return found


def _remove(group: Path) -> bool:
    for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            inner.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


@pytest.fixture
async def counter(manager: Manager) -> dict[str, Any]:
    """A process of the service that counts, and says so when it is stopped."""
    await manager.systemctl("start", "outlast")
    return await manager.sh("trap 'echo stopped; exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")


async def goes_on(manager: Manager, process: dict[str, Any]) -> None:
    """Wait until the process has printed more; the service answers at once."""
    before = await manager.get(process)
    assert (before["status"], before["pid"]) == ("running", process["pid"])
    await manager.wait_for_lines(process, before["output"]["lines"] + 6)


async def ends_whole(manager: Manager) -> None:
    """Stop everything as at shutdown, and check that the counter was stopped in order and no line is missing."""
    await manager.systemctl("start", "outlast-shutdown")
    await manager.systemctl("stop", "outlast-shutdown")
    assert await manager.shows("ActiveState") == "inactive"
    assert manager.sql("SELECT exit_code, reason FROM processes") == [(5, "exited")]
    rows = manager.sql("SELECT line FROM output_lines WHERE stream = 'stdout' ORDER BY seq")
    *numbers, last = [row[0] for row in rows]
    assert last == "stopped"
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


async def test_systemctl_restart_leaves_processes_running(manager: Manager, counter: dict[str, Any]) -> None:
    await goes_on(manager, counter)
    first = await manager.shows("MainPID")
    await manager.systemctl("restart", "outlast")
    assert await manager.shows("MainPID") not in {"0", first}
    await goes_on(manager, counter)  # at once: it is started when it answers
    await ends_whole(manager)


async def test_systemd_restarts_a_killed_daemon(manager: Manager, counter: dict[str, Any]) -> None:
    first = await manager.shows("MainPID")
    await manager.systemctl("kill", "--signal=KILL", "--kill-whom=main", "outlast")

    async def is_back() -> bool:
        return await manager.shows("NRestarts") == "1" and await manager.shows("ActiveState") == "active"

    await eventually(is_back)
    assert await manager.shows("MainPID") not in {"0", first}
    await goes_on(manager, counter)
    await ends_whole(manager)


async def test_systemctl_stop_leaves_processes_running(manager: Manager, counter: dict[str, Any]) -> None:
    await manager.systemctl("stop", "outlast")
    assert await manager.shows("ActiveState") == "inactive"
    await manager.systemctl("start", "outlast")
    await goes_on(manager, counter)
    await ends_whole(manager)


async def test_systemd_does_not_restart_after_down(manager: Manager) -> None:
    await manager.systemctl("start", "outlast")
    await manager.run("sleep", "1000")
    code, output = await manager.run_inside(PROGRAM, "shutdown", "--state-dir", str(manager.state_dir))
    assert (code, output) == (0, "1 running process ended; shim and daemon are down\n")
    await eventually(lambda: _is(manager, "ActiveState", "inactive"))
    assert await manager.shows("SubState") == "dead"  # and not about to be started again


async def _is(manager: Manager, name: str, value: str) -> bool:
    return await manager.shows(name) == value


async def test_a_wrong_configuration_fails_the_start(manager: Manager) -> None:
    unit = manager.folder / "systemd" / "user" / "outlast.service"
    unit.write_text(unit.read_text().replace("OUTLAST_LISTEN=127.0.0.1:", "OUTLAST_LISTEN=nonsense"))
    await manager.systemctl("daemon-reload")
    code, output = await manager.run_inside("systemctl", "--user", "start", "outlast")
    assert code == 1
    assert "Job for outlast.service failed" in output


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
async def test_the_service_manager_is_told_when_requests_are_answered(
    state_dir: Path, tmp_path: Path, *, abstract: bool
) -> None:
    address = f"@{tmp_path}/notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if abstract else address)
        sock.setblocking(False)
        daemon = Daemon(state_dir, NOTIFY_SOCKET=address)
        try:
            await daemon.start()
            told = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), DEADLINE_S)
            assert told == b"READY=1"
            process = await daemon.sh("echo ${NOTIFY_SOCKET-none}")
            await daemon.ended(process)
            assert await daemon.lines(process) == ["none"]
        finally:
            await daemon.end_everything()


async def test_the_daemon_runs_without_its_service_manager(state_dir: Path, tmp_path: Path) -> None:
    daemon = Daemon(state_dir, NOTIFY_SOCKET=str(tmp_path / "gone"))
    try:
        await daemon.start()
        assert await daemon.call("GET", "/health", 200) == {"healthy": True}
    finally:
        await daemon.end_everything()

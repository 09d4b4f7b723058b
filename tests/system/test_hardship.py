"""Trouble around the daemon: full disks, lost files, takeovers, hostile neighbours."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, outlast, shim_children, shim_pid
from tests.support.disk import Disk, mounted
from tests.support.health import is_healthy, wait_until_healthy
from tests.support.waiting import eventually


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 12) as disk:
        yield disk.path


async def fill(daemon: Daemon, disk: Path) -> tuple[dict[str, Any], Path]:
    """Take all room, and have a process write until the store cannot commit."""
    process = await daemon.python(
        "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "for i in range(300):\n    print(f'{i:05d}', 'x' * 10000, flush=True)\nsys.exit(7)",
        stdin_mode="pipe",
    )
    # A follower may see the line before it is stored; what `wait` has found is stored.
    await daemon.call("GET", f"/processes/{process['id']}/wait?until=output&pattern=ready", 200)
    full_disk = Disk(disk)
    full_disk.fill()
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")

    async def full() -> bool:
        return not await is_healthy(daemon)

    await eventually(full)
    return process, full_disk.ballast


async def whole(daemon: Daemon, process: dict[str, object]) -> None:
    assert (await daemon.ended(process))["exit_code"] == 7
    expected = ["ready", *(f"{i:05d} {'x' * 10000}" for i in range(300))]
    assert await daemon.lines(process) == expected


async def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    daemon = Daemon(small_disk / "state")
    try:
        await daemon.start()
        process, ballast = await fill(daemon, small_disk)
        error = await daemon.call("POST", "/processes", 503, {"command": "true"})
        assert "full" in error["error"]
        ballast.unlink()

        await wait_until_healthy(daemon)
        await whole(daemon, process)
    finally:
        await daemon.end_everything()


@pytest.mark.long
async def test_down_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    daemon = Daemon(small_disk / "state")
    try:
        await daemon.start()
        config = small_disk / "impatient.toml"
        config.write_text("stop_grace_ms = 0\n")
        process, ballast = await fill(daemon, small_disk)
        shim = shim_pid(daemon.state_dir)
        await eventually(lambda: not is_running(process["pid"]))  # the shim has its output and its end
        code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir), OUTLAST_CONFIG=str(config))
        assert code == 1
        assert "make room" in output
        assert shim is not None
        assert is_running(shim)
        ballast.unlink()
        await daemon.hang_up()
        assert daemon.process is not None
        await daemon.process.wait()
        await daemon.start()
        await whole(daemon, process)
    finally:
        await daemon.end_everything()


@pytest.mark.parametrize("daemon_is_there", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_down_gives_up_what_a_full_disk_has_no_room_for(small_disk: Path, *, daemon_is_there: bool) -> None:
    daemon = Daemon(small_disk / "state")
    try:
        await daemon.start()
        process, ballast = await fill(daemon, small_disk)
        if not daemon_is_there:
            await daemon.kill()
        shim = shim_pid(daemon.state_dir)
        assert shim is not None
        impatient = small_disk.parent / "impatient.toml"
        impatient.write_text("stop_grace_ms = 0\n")
        code, output = await outlast(
            "shutdown", "--discard", "--state-dir", str(daemon.state_dir), OUTLAST_CONFIG=str(impatient)
        )
        assert (code, "shim and daemon are down" in output) == (0, True), output
        # what was printed before the store failed may be stored: "ready" is, and some lines may be
        given_up = re.search(r"; (\d+) lines? of output \((\d+) bytes\) of 1 process are given up\n", output)
        assert given_up, output
        lines, size = map(int, given_up.groups())
        assert (0 < lines <= 300, size) == (True, lines * 10007)
        assert f"given up of process {process['id']} " in output
        assert not is_running(shim)
        assert not is_running(process["pid"])
        ballast.unlink()
        await daemon.hang_up()
        if daemon_is_there:
            assert daemon.process is not None
            await daemon.process.wait()
        await daemon.start()
        events = await daemon.drained(process)
        assert events[0].data["line"] == "ready\n"
        assert [event.data["reason"] for event in events if event.kind == "gap"] == ["lost", "lost"]
        assert events[-1].kind == "eof"
    finally:
        await daemon.end_everything()


async def test_a_removed_socket_is_created_again(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    await daemon.kill()
    (daemon.state_dir / "shim.sock").unlink()
    shim = shim_pid(daemon.state_dir)
    await daemon.start()
    assert shim_pid(daemon.state_dir) == shim
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"found\n")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    assert (await daemon.ended(process))["exit_code"] == 0
    assert await daemon.raw(process) == b"found\n"


async def test_down_finds_a_shim_without_its_socket(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    await daemon.kill()
    (daemon.state_dir / "shim.sock").unlink()
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, "1 running process ended; shim and daemon are down\n")
    assert not is_running(process["pid"])


async def test_a_state_folder_has_one_shim(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "outlast.shim", str(daemon.state_dir), str(writer), "1024"]
    second = subprocess.run(command, pass_fds=(writer,), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        assert await asyncio.to_thread(ready.read) == b""  # it never became ready: it has ended
    assert second.stdout == b""
    await daemon.kill()
    await daemon.start()
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"same\n")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.raw(process) == b"same\n"


async def test_a_start_that_ends_after_a_takeover_is_recorded(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.run("true")
    os.kill(shim, signal.SIGSTOP)
    starts = [asyncio.create_task(daemon.run("sleep", "1000")) for _ in range(12)]

    async def sent() -> bool:
        # Nothing tells that the commands lie in the shim's socket; a call that needs no shim shows the daemon idle.
        return bool(await daemon.call("GET", "/info", 200))

    for _ in range(20):
        await eventually(sent)
    await daemon.kill()
    await asyncio.gather(*starts, return_exceptions=True)
    successor = asyncio.create_task(daemon.start())
    await eventually(lambda: daemon.process is not None and Path(f"/proc/{daemon.pid}").exists())
    os.kill(shim, signal.SIGCONT)
    await successor

    async def all_listed() -> bool:
        listed = await daemon.call("GET", "/processes?status=running", 200)
        return shim_children(daemon.state_dir) == {p["pid"] for p in listed["processes"]}

    await eventually(all_listed)


@pytest.mark.long
async def test_the_next_daemon_adopts_a_process_with_large_arguments(daemon: Daemon) -> None:
    args = ["é" * 60_000] * 14
    processes = [await daemon.sh("exec sleep 1000", args=["-c", "exec sleep 1000", *args]) for _ in range(16)]
    await daemon.kill()
    await daemon.start()
    listed = (await daemon.call("GET", "/processes?status=running", 200))["processes"]
    assert {p["id"] for p in listed} == {p["id"] for p in processes}
    assert listed[0]["args"][2:] == args


async def test_many_small_writes_take_no_more_memory_than_the_room(state_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(f"buffer_limit_bytes = {4 << 20}\n")
    daemon = Daemon(state_dir)
    try:
        await daemon.start("--config", str(config))
        process = await daemon.python(
            "import os, sys\nsys.stdin.readline()\nwhile True:\n    os.write(1, b'o')\n    os.write(2, b'e')",
            stdin_mode="pipe",
        )
        shim = shim_pid(state_dir)

        def resident_mib() -> int:
            return int(Path(f"/proc/{shim}/statm").read_text().split()[1]) * 4096 >> 20

        before = resident_mib()
        await daemon.kill()
        Path(f"/proc/{process['pid']}/fd/0").write_text("\n")
        await eventually(lambda: "pipe_write" in Path(f"/proc/{process['pid']}/wchan").read_text())
        assert resident_mib() - before < 32
        await daemon.start("--config", str(config))
        await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    finally:
        await daemon.end_everything()


async def test_a_process_that_leaves_its_cgroup_is_killed_too(daemon: Daemon) -> None:
    process = await daemon.sh(
        "root=$(grep ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2); echo $$ > $root/cgroup.procs; echo left; "
        "sleep 1000; sleep 1000"
    )
    await anext(daemon.follow(process))
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert not is_running(process["pid"])


async def test_a_cgroup_is_removed_after_its_tree(daemon: Daemon) -> None:
    process = await daemon.sh("setsid sleep 0.3 >/dev/null 2>&1 & echo $!; grep 0:: /proc/self/cgroup")
    await daemon.ended(process)
    child, group = await daemon.lines(process)
    if "outlast-" not in group:
        pytest.skip("no cgroups can be made here")
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    folder = Path(mount + group.removeprefix("0::"))
    await eventually(lambda: not is_running(int(child)) and not folder.exists())


@pytest.mark.parametrize(("mode", "content"), [(0o777, ["something"]), (0o770, ["something"]), (0o1777, [])])
async def test_a_state_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, mode: int, content: list[str]
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    folder.chmod(mode)
    code, output = await outlast("serve", "--listen", "127.0.0.1:0", "--state-dir", str(folder))
    assert code == 1
    assert "others may write to it" in output
    assert folder.stat().st_mode & 0o7777 == mode
    assert os.listdir(folder) == content


async def test_a_malformed_request_is_not_logged(daemon: Daemon) -> None:
    port = int(daemon.url.rpartition(":")[2])
    for request in (b"GET / HTTP/1.1\r\nAuthorization: Bearer %s\r\r\n\r\n", b"Bearer %s\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request % daemon.token.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.")
        writer.close()
        await writer.wait_closed()
    await daemon.stop()
    assert daemon.token not in daemon.log
    assert "Traceback" not in daemon.log


async def test_purges_at_once_are_counted_once(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")

    async def purge() -> int:
        url = f"{daemon.url}/api/v1/processes/{process['id']}?purge=true"
        async with daemon.session.delete(url) as response:
            return response.status

    statuses = await asyncio.gather(*(purge() for _ in range(8)))
    assert set(statuses) <= {204, 404}
    assert 204 in statuses
    assert (await daemon.call("GET", "/info", 200))["total_processes"] == 0

"""A daemon touches only what its own state folder started, also if its store is a copy, shared, moved or restored."""

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, is_running, outlast, shim_pid, wait_until_gone
from tests.support.health import is_healthy, warnings
from tests.support.patched_daemon import NO_CGROUPS, patched_daemon
from tests.support.waiting import eventually

HELD = "It was copied or moved. Managed processes in it are not started here"


async def managed(daemon: Daemon, starts: Path) -> dict[str, Any]:
    """Start a managed process that notes each of its starts."""
    script = f"echo start >> {starts}; exec sleep 1000"
    process = await daemon.sh(script, name="web", restart={"policy": "always", "initial_backoff_ms": 1})
    await eventually(starts.exists)
    return process


def copy_store(daemon: Daemon, folder: Path) -> Path:
    """Copy the store as an operator does, into a folder of its own."""
    folder.mkdir(mode=0o700)
    copy = folder / "outlast.db"
    with closing(sqlite3.connect(daemon.state_dir / "outlast.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def copy_folder(daemon: Daemon, folder: Path) -> None:
    """Copy the whole state folder, its identity too."""
    subprocess.run(["cp", "-a", str(daemon.state_dir), str(folder)], check=True)


@pytest.mark.parametrize("groups", ["cgroup", pytest.param("proc", marks=pytest.mark.long)])
@pytest.mark.parametrize("whole", [False, True], ids=["store", "folder"])
async def test_a_served_copy_touches_nothing_of_the_original(
    state_dir: Path, tmp_path: Path, groups: str, *, whole: bool
) -> None:
    daemon = Daemon(state_dir) if groups == "cgroup" else patched_daemon(state_dir, NO_CGROUPS)
    starts = tmp_path / "starts"
    copy = Daemon(tmp_path / "copy" / "state", **daemon.environment)
    copy.state_dir.parent.mkdir()
    try:
        await daemon.start()
        web, plain = await managed(daemon, starts), await daemon.run("sleep", "1000")
        (copy_folder if whole else copy_store)(daemon, copy.state_dir)

        await copy.start()
        assert {(await copy.get(p))["reason"] for p in (web, plain)} == {"lost"}
        (warning,) = await warnings(copy)
        assert HELD in warning
        assert HELD in copy.log
        assert str(state_dir) in warning
        shown = (await copy.get(web))["managed"]
        assert (shown["status"], shown["next_restart_at"]) == ("stopped", None)
        assert "`outlast serve --adopt`" in shown["last_error"]
        assert (await copy.drained(web))[-1].kind == "eof"
        assert (await copy.call("GET", "/info", 200))["adopted"] is False
        await copy.call("DELETE", f"/processes/{plain['id']}", 204)
        own = await copy.sh("exit 1", restart={"policy": "on_failure", "max_restarts": 2, "initial_backoff_ms": 1})
        await eventually(lambda: has_run(copy, own, 3))  # what is started here is managed here
        await copy.kill()
        await copy.start()  # the second time, too
        assert HELD in (await warnings(copy))[0]
        assert starts.read_text() == "start\n"

        await copy.stop()
        await copy.start("--adopt")
        await eventually(lambda: starts.read_text() == "start\nstart\n")
        assert (await copy.call("GET", "/info", 200))["adopted"] is True
        await copy.stop()
        await copy.start()
        assert await warnings(copy) == []
        assert (await copy.get(web))["managed"]["status"] == "running"
        code, said = await outlast("shutdown", "--state-dir", str(copy.state_dir), **copy.environment)
        assert code == 0, said

        assert is_running(web["pid"])
        assert is_running(plain["pid"])
        assert await is_healthy(daemon)
        assert {(await daemon.get(p))["status"] for p in (web, plain)} == {"running"}
    finally:
        for each in (copy, daemon):
            await each.end_everything()


async def has_run(daemon: Daemon, process: dict[str, Any], number: int) -> bool:
    return bool((await daemon.get(process))["run"] == number)


async def test_down_on_a_copy_ends_nothing_of_the_original(daemon: Daemon, tmp_path: Path) -> None:
    web, plain = await managed(daemon, tmp_path / "starts"), await daemon.run("sleep", "1000")
    copy_folder(daemon, tmp_path / "folder")
    copy_store(daemon, tmp_path / "store")
    for name in ("folder", "store"):
        code, said = await outlast("shutdown", "--state-dir", str(tmp_path / name))
        assert code == 0, said
    assert is_running(web["pid"])
    assert is_running(plain["pid"])
    assert await is_healthy(daemon)


@pytest.mark.parametrize("link", [None, os.symlink], ids=["same path", "symlink"])
async def test_a_store_has_one_daemon(daemon: Daemon, tmp_path: Path, link: Any) -> None:
    process = await daemon.run("sleep", "1000")
    path = daemon.state_dir / "outlast.db"
    if link is not None:
        link(path, path.with_name("alias.db"))
        path = path.with_name("alias.db")
    elsewhere = {"OUTLAST_STORAGE": f"sqlite:///{path}"}
    serve = ["serve", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "other")]
    code, said = await outlast(*serve, **elsewhere)
    assert code == 1
    assert f"another daemon (pid {daemon.pid}) serves the store {os.path.realpath(path)}" in said
    assert shim_pid(tmp_path / "other") is None

    await daemon.kill()  # its shim and its process run on
    code, said = await outlast(*serve, **elsewhere)
    assert code == 1
    assert f"the store belongs to the state folder {daemon.state_dir}, whose processes run" in said
    await daemon.start()
    assert (await daemon.get(process))["status"] == "running"


async def kill_all_but_the_processes(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    os.kill(shim, signal.SIGKILL)
    await wait_until_gone(shim)


@pytest.mark.parametrize("groups", ["cgroup", "proc"])
async def test_a_folder_that_is_renamed_goes_on_as_before(state_dir: Path, tmp_path: Path, groups: str) -> None:
    daemon = Daemon(state_dir) if groups == "cgroup" else patched_daemon(state_dir, NO_CGROUPS)
    starts = tmp_path / "starts"
    await daemon.start()
    web, plain = await managed(daemon, starts), await daemon.run("sleep", "1000")
    await kill_all_but_the_processes(daemon)
    moved = Daemon(state_dir.rename(state_dir.with_name("moved")), **daemon.environment)
    try:
        await moved.start()
        await eventually(lambda: not is_running(web["pid"]) and not is_running(plain["pid"]))  # survivors are its own
        assert (await moved.get(plain))["reason"] == "lost"
        await eventually(lambda: starts.read_text() == "start\nstart\n")
        assert await is_healthy(moved)
    finally:
        await moved.end_everything()


async def test_a_backup_is_restored_into_its_own_folder(daemon: Daemon, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    await managed(daemon, starts)
    backup = copy_store(daemon, tmp_path / "backup")
    await daemon.end_everything()
    for path in daemon.state_dir.glob("outlast.db*"):
        path.unlink()
    shutil.copy(backup, daemon.state_dir)
    await daemon.start()
    await eventually(lambda: starts.read_text() == "start\nstart\n")
    assert await is_healthy(daemon)


async def test_a_copy_without_managed_processes_is_adopted_at_once(daemon: Daemon, tmp_path: Path) -> None:
    process = await daemon.run("sleep", "1000")
    copy_store(daemon, tmp_path / "copy")
    copy = Daemon(tmp_path / "copy")
    try:
        await copy.start()
        assert await is_healthy(copy)
        assert (await copy.get(process))["reason"] == "lost"
        assert f"the store was that of the state folder {daemon.state_dir}" in copy.log
        assert is_running(process["pid"])
    finally:
        await copy.end_everything()


async def test_a_call_starts_a_managed_process_of_a_copy(daemon: Daemon, tmp_path: Path) -> None:
    web = await managed(daemon, tmp_path / "starts")
    copy_store(daemon, tmp_path / "copy")
    copy = Daemon(tmp_path / "copy")
    try:
        await copy.start()
        assert (await copy.get(web))["managed"]["status"] == "stopped"
        started = await copy.call("POST", f"/processes/{web['id']}/restart", 200)
        assert (started["managed"]["status"], started["managed"]["last_error"]) == ("running", None)
        os.kill(started["pid"], signal.SIGKILL)
        await eventually(lambda: has_run(copy, web, 3))  # it is managed here from now on
    finally:
        await copy.end_everything()

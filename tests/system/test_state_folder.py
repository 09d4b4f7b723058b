"""The state folder: whose it may be, what is done to it, its locks, and its name."""

import asyncio
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from outlast.shimlink import connected_daemon
from tests.support.daemon import OUTLAST, QUICK, Daemon, is_running, left_over, outlast, shim_pid, wait_until_gone
from tests.support.waiting import eventually

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")


async def refused(folder: Path) -> str:
    """Try to serve from a folder, and return what is said."""
    code, output = await outlast("serve", "--listen", "127.0.0.1:0", "--state-dir", str(folder))
    assert code == 1
    assert "Traceback" not in output
    return output


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def serve_and_end(folder: Path) -> None:
    """Serve from a folder, run a process, and end everything."""
    daemon = Daemon(folder)
    try:
        await daemon.start()
        await daemon.ended(await daemon.run("true"))
    finally:
        await daemon.end_everything()


# ---- whose folder it is


@pytest.mark.parametrize("mode", [0o755, 0o700])
async def test_the_permissions_of_a_folder_that_exists_stay(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "something").touch()
    folder.chmod(mode)
    await serve_and_end(folder)
    assert mode_of(folder) == mode


@pytest.mark.parametrize("mode", [0o777, 0o2770, 0o775])
async def test_a_volume_that_is_open_to_a_group_is_closed_at_each_start(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "lost+found").mkdir()
    for _ in range(2):
        for path in (folder, *folder.iterdir()):
            path.chmod(mode if path.is_dir() else 0o660)  # as kubelet does at each mount
        await serve_and_end(folder)
        assert mode_of(folder) == 0o700


@needs_root
async def test_what_others_have_put_into_an_open_folder_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    await serve_and_end(folder)
    folder.chmod(0o777)
    os.lchown(folder / "token", NOBODY, NOBODY)
    assert "others may write to it" in await refused(folder)
    assert mode_of(folder) == 0o777


@needs_root
async def test_a_folder_of_another_user_is_refused_and_a_new_one_in_it_is_made(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    os.chown(volume, NOBODY, NOBODY)
    assert "belongs to another user (uid 65534, this is uid 0)" in await refused(volume)
    await serve_and_end(volume / "outlast")
    assert (mode_of(volume), mode_of(volume / "outlast")) == (0o777, 0o700)


@needs_root
@pytest.mark.parametrize("below", ["", "state"])
async def test_a_symbolic_link_of_another_user_is_not_followed(tmp_path: Path, below: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)
    assert "is a symbolic link of another user" in await refused(link / below)
    assert os.listdir(target) in ([], ["state"])
    os.lchown(link, 0, 0)
    await serve_and_end(link / below)


async def test_the_umask_does_not_open_or_close_the_folder(tmp_path: Path) -> None:
    for umask in (0, 0o777):
        folder = tmp_path / f"{umask}" / "state"
        command = f'umask {umask:o}; exec "$@"'
        daemon = Daemon(folder)
        daemon.command = ["sh", "-c", command, "sh", *OUTLAST]
        (tmp_path / f"{umask}").mkdir()
        try:
            await daemon.start()
            assert mode_of(folder) == 0o700
        finally:
            await daemon.end_everything()


@needs_root
@pytest.mark.parametrize("command", [["shutdown"], ["shim", "upgrade"], ["sql", "SELECT 1"]], ids=" ".join)
async def test_commands_on_the_folder_of_another_user_say_so(daemon: Daemon, command: list[str]) -> None:
    for folder in (daemon.state_dir, *daemon.state_dir.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *OUTLAST, *command]
    ended = await asyncio.to_thread(
        subprocess.run,
        [*words, "--state-dir", str(daemon.state_dir)],
        env={**os.environ, **QUICK},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert str(daemon.state_dir) in ended.stderr
    assert await daemon.call("GET", "/health", 200) == {"healthy": True}


# ---- locks


async def test_a_second_daemon_is_refused_though_the_lock_was_removed(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    (daemon.state_dir / "lock").unlink()
    assert "another daemon (its pid is not known here" in await refused(daemon.state_dir)
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"mine\n")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.raw(process) == b"mine\n"
    assert "the connection to the shim was lost" not in daemon.log


async def test_down_ends_a_daemon_whose_lock_was_removed(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    (daemon.state_dir / "lock").unlink()
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, "1 running process ended; shim and daemon are down\n")
    await daemon.stop(0)
    assert not is_running(process["pid"])


async def test_the_shim_names_no_daemon_that_has_ended(daemon: Daemon) -> None:
    assert await asyncio.to_thread(connected_daemon, daemon.state_dir) == daemon.pid
    await daemon.kill()

    async def is_forgotten() -> bool:
        return await asyncio.to_thread(connected_daemon, daemon.state_dir) is None

    await eventually(is_forgotten)


async def test_a_later_process_with_the_pid_of_the_daemon_is_none(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlast.shimlink.daemon.identify", lambda pid: [pid, 1])
    assert await asyncio.to_thread(connected_daemon, daemon.state_dir) is None


async def test_a_second_shim_does_not_start_though_the_files_of_the_first_were_removed(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    await daemon.kill()
    for name in ("lock", "shim.lock", "shim.sock"):
        (daemon.state_dir / name).unlink()
    assert "the shim did not start" in await refused(daemon.state_dir)
    assert "SIGHUP makes it listen again" in (daemon.state_dir / "shim.log").read_text()
    assert is_running(process["pid"])
    os.kill(shim, signal.SIGHUP)
    await eventually((daemon.state_dir / "shim.sock").exists)
    await daemon.start()
    assert (await daemon.get(process))["status"] == "running"
    assert shim_pid(daemon.state_dir) == shim


async def test_a_folder_that_is_moved_is_the_same_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    daemon = Daemon(old)
    try:
        await daemon.start()
        process = await daemon.python("import sys\nsys.stdin.readline()\nprint('x' * (9 << 20))", stdin_mode="pipe")
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"")
        await daemon.kill()
        old.rename(new)
        Path(f"/proc/{process['pid']}/fd/0").write_text("\n")
        await wait_until_gone(process["pid"])  # more than memory holds: it is in the spool
        assert not old.exists()
        daemon.state_dir = new
        await daemon.start()
        await daemon.ended(process)
        assert await daemon.raw(process) == b"x" * (9 << 20) + b"\n"
        assert os.listdir(new / "spool") == []
    finally:
        await daemon.end_everything()
    assert left_over(new) == []


# ---- names


@pytest.mark.parametrize(
    "name", [b"with space", b"50%25?x#y", b"caf\xe9", "日本".encode(), b"new\nline", b"quote'\"$x"], ids=repr
)
async def test_the_folder_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    daemon = Daemon(folder)
    try:
        await daemon.start()
        process = await daemon.sh("echo here")
        await daemon.ended(process)
        assert (folder / "outlast.db").exists()
        answer = await daemon.call("POST", "/sql", 200, {"query": "SELECT line FROM output_lines"})
        assert answer["rows"] == [["here"]]
        code, output = await outlast("sql", "--state-dir", str(folder), "SELECT line FROM output_lines")
        assert (code, output.split()[-1]) == (0, "here")
        await daemon.kill()
        await daemon.start()
        assert await daemon.lines(process) == ["here"]
        await daemon.hang_up()
        code, output = await outlast("shutdown", "--state-dir", str(folder))
        assert (code, output) == (0, "0 running processes ended; shim and daemon are down\n")
    finally:
        await daemon.end_everything()
    assert left_over(folder) == []


@needs_root
async def test_a_user_without_a_home_is_told_to_name_the_folder() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"HOME", "XDG_STATE_HOME"}}
    for command in (["serve"], ["shutdown"], ["sql", "SELECT 1"]):
        ended = await asyncio.to_thread(
            subprocess.run,
            ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *OUTLAST, *command],
            env={**environment, **QUICK},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert "no home folder is known for this user (uid 54321)" in ended.stderr
        assert "Traceback" not in ended.stderr


async def test_a_working_directory_that_was_removed_is_reported(tmp_path: Path) -> None:
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    ended = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", script, "sh", *OUTLAST, "shutdown", "--state-dir", "relative"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert "the working directory was removed" in ended.stderr


# ---- a store that cannot be used


async def test_down_ends_the_processes_of_a_damaged_store(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    managed = await daemon.sh(
        "trap 'echo ended; exit' TERM; while :; do sleep 0.1; done", name="kept", restart={"policy": "always"}
    )
    managed = await daemon.call("POST", f"/processes/{managed['id']}/restart", 200)
    shim = shim_pid(daemon.state_dir)
    await daemon.kill()
    for name in ("outlast.db-wal", "outlast.db-shm"):
        (daemon.state_dir / name).unlink()
    (daemon.state_dir / "outlast.db").write_bytes(b"no database " * 1000)
    try:
        code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
        assert code == 1
        assert "Traceback" not in output
        assert "2 running processes were ended; how is not stored, and " in output
        # 11 more if the shell says that it has terminated `sleep`
        assert re.search(r"lines? of output \((6|17) bytes\) of 2 processes are given up", output), output
        assert not is_running(process["pid"])
        assert not is_running(managed["pid"])
        assert shim is not None
        await wait_until_gone(shim)
    finally:
        for path in daemon.state_dir.glob("outlast.db*"):
            path.unlink()


# ---- settings that are wrong


@pytest.mark.parametrize(
    "flags",
    [["--listen", "nonsense"], ["--listen", "0.0.0.0:0"], ["--config", "/no/such/file"], ["--nonsense"]],
    ids=" ".join,
)
async def test_nothing_is_made_for_wrong_flags(tmp_path: Path, flags: list[str]) -> None:
    code, _ = await outlast("serve", "--state-dir", str(tmp_path / "state"), *flags)
    assert code != 0
    assert os.listdir(tmp_path) == []


async def test_nothing_is_made_for_a_store_that_does_not_exist(tmp_path: Path) -> None:
    code, _ = await outlast("serve", "--state-dir", str(tmp_path / "state"), OUTLAST_STORAGE="nosuch://x")
    assert (code, os.listdir(tmp_path)) == (1, [])


@pytest.mark.parametrize("token", [" secret\n", "\tsecret "])
async def test_blanks_around_a_token_do_not_count(state_dir: Path, token: str) -> None:
    daemon = Daemon(state_dir, OUTLAST_TOKEN=token)
    try:
        await daemon.start()
        daemon.environment["OUTLAST_TOKEN"] = "secret"
        assert await daemon.call("GET", "/health", 200) == {"healthy": True}
    finally:
        await daemon.end_everything()


@pytest.mark.parametrize(
    ("token", "listen", "says"),
    [
        (" \n", "127.0.0.1:0", "OUTLAST_TOKEN is empty"),
        (" \n", "0.0.0.0:0", "first set OUTLAST_TOKEN"),
        ("two\nlines", "127.0.0.1:0", "a character that no header can carry"),
        ("gr\u00fc\u00df", "127.0.0.1:0", "a character that no header can carry"),
        ("fifteen-letters", "0.0.0.0:0", "fewer than 16 characters"),
        ("fifteen-letters", "[::]:0", "fewer than 16 characters"),
    ],
)
async def test_a_token_that_cannot_work_is_refused(state_dir: Path, token: str, listen: str, says: str) -> None:
    code, output = await outlast("serve", "--state-dir", str(state_dir), "--listen", listen, OUTLAST_TOKEN=token)
    assert (code, says in output) == (1, True), output


async def test_a_query_of_a_store_that_is_not_there_names_its_path(tmp_path: Path) -> None:
    code, output = await outlast("sql", "--state-dir", str(tmp_path), "SELECT 1")
    assert code == 1
    assert f"unable to open database file: {tmp_path / 'outlast.db'}" in output

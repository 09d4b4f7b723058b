"""The command line: output, sources of settings, and the end of the daemon."""

import asyncio
import errno
import os
import signal
import socket
import stat
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.daemon import OUTLAST, PYTHON, Daemon, close_pipes, is_running, left_over, outlast, shim_pid
from tests.support.waiting import DEADLINE_S, eventually


async def test_the_state_folder_is_private(daemon: Daemon) -> None:
    await daemon.ended(await daemon.sh("echo secret"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in daemon.state_dir.iterdir()}
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700
    assert {"token", "outlast.db", "shim.sock", "lock"} <= set(modes)
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    assert modes["token"] == 0o600


async def test_the_token_is_made_once(daemon: Daemon) -> None:
    token = daemon.token
    assert len(token) >= 32
    process = await daemon.run("sleep", "1000")
    await daemon.call("POST", "/processes", 400, {"nonsense": token})
    await daemon.stop()
    await daemon.start()
    assert daemon.token == token
    assert token not in daemon.log
    for pid in (daemon.pid, shim_pid(daemon.state_dir), process["pid"]):
        assert token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert token.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_the_address_is_in_a_file_while_the_daemon_serves(daemon: Daemon) -> None:
    path = daemon.state_dir / "address"
    assert path.read_text() == f"{daemon.url}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await daemon.kill()
    assert path.read_text() == f"{daemon.url}\n"  # harmless: the next daemon listens there, too
    path.write_text("http://127.0.0.1:1\n")
    await daemon.start()
    assert path.read_text() == f"{daemon.url}\n"
    await daemon.stop()
    assert not path.exists()
    path.mkdir()  # it cannot be written
    await daemon.start()
    assert await daemon.call("GET", "/health", 200) == {"healthy": True}
    assert f"the address file {path} cannot be written" in daemon.log
    assert [left.name for left in daemon.state_dir.glob(".address*")] == []


async def test_the_address_is_printed_when_the_daemon_is_ready(daemon: Daemon) -> None:
    assert daemon.url.startswith("http://127.0.0.1:")
    assert await daemon.call("GET", "/health", 200) == {"healthy": True}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_daemon_names_the_processes_that_keep_running(daemon: Daemon, number: int) -> None:
    processes = [await daemon.run("sleep", "1000") for _ in range(2)]
    follower = asyncio.create_task(daemon.drained(processes[0]))
    assert await daemon.stop(number) == 0
    assert "2 processes keep running" in daemon.log
    assert f"outlast shutdown --state-dir {daemon.state_dir}" in daemon.log
    assert all(is_running(process["pid"]) for process in processes)
    await asyncio.wait([follower], timeout=DEADLINE_S)
    follower.exception()  # the stream was interrupted, which is not the end of the output
    assert "Traceback" not in daemon.log


async def test_down_ends_everything(daemon: Daemon) -> None:
    polite = await daemon.sh("trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    deaf = await daemon.sh("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    daemonised = await daemon.sh("setsid sh -c 'exec sleep 1000 >/dev/null 2>&1' & exec sleep 1000")
    for process in (polite, deaf):
        await anext(daemon.follow(process))
    await daemon.hang_up()
    config = daemon.state_dir.parent / "grace.toml"
    config.write_text("stop_grace_ms = 1000\n")
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir), "--config", str(config))
    assert (code, output) == (0, "3 running processes ended; shim and daemon are down\n")
    assert left_over(daemon.state_dir) == []
    assert not is_running(daemonised["pid"])
    assert not (daemon.state_dir / "shim.sock").exists()
    assert daemon.process is not None
    assert await daemon.process.wait() == 0
    rows = daemon.sql("SELECT id, exit_code, signal, reason FROM processes ORDER BY handle")
    assert rows == [
        (polite["id"], 5, None, "exited"),
        (deaf["id"], None, 9, "signaled"),
        (daemonised["id"], None, 15, "signaled"),
    ]
    assert daemon.sql("SELECT line FROM output_lines WHERE process_id = ? AND stream = 'stdout'", polite["id"]) == [
        ("ready",),
        ("stopped",),
    ]
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, f"nothing runs for {daemon.state_dir}\n")


async def test_down_on_a_wrong_folder_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    for folder, problem in ((empty, "no daemon has used the folder"), (tmp_path / "none", "there is no folder")):
        code, output = await outlast("shutdown", "--state-dir", str(folder))
        assert (code, problem in output, "with --state-dir" in output) == (1, True, True), output
        assert "Traceback" not in output
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(empty) == []


async def test_down_works_without_a_daemon(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    await daemon.kill()
    code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    assert (code, output) == (0, "1 running process ended; shim and daemon are down\n")
    assert daemon.sql("SELECT id, signal FROM processes") == [(process["id"], 15)]


async def test_down_ends_a_daemon_that_a_supervisor_restarts(daemon: Daemon) -> None:
    """A daemon that takes the place of another before `shutdown` can is ended like it."""
    process = await daemon.run("sleep", "1000")
    await daemon.hang_up()
    queue = "import fcntl, signal, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); signal.pause()"
    successor = await asyncio.create_subprocess_exec(PYTHON, "-c", queue, str(daemon.state_dir / "lock"))
    try:
        await eventually(lambda: "setlk" in Path(f"/proc/{successor.pid}/wchan").read_text())
        code, output = await outlast("shutdown", "--state-dir", str(daemon.state_dir))
    finally:
        if successor.returncode is None:  # it was not quicker
            successor.kill()
        await successor.wait()
    assert (code, output) == (0, "1 running process ended; shim and daemon are down\n")
    assert daemon.sql("SELECT id, signal FROM processes") == [(process["id"], 15)]


async def test_a_state_folder_has_one_daemon(daemon: Daemon) -> None:
    code, output = await outlast("serve", "--listen", "127.0.0.1:0", "--state-dir", str(daemon.state_dir))
    assert code == 1
    assert f"another daemon (pid {daemon.pid}) serves {daemon.state_dir}" in output
    assert await daemon.call("GET", "/health", 200) == {"healthy": True}


async def test_a_port_in_use_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for folder in (found, tmp_path / "new" / "state"):
            code, output = await outlast("serve", "--listen", address, "--state-dir", str(folder))
            assert code == 1
            assert f"cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}; choose another --listen" in output
            assert shim_pid(folder) is None
    assert os.listdir(tmp_path) == ["found"]
    assert os.listdir(found) == ["lock"]  # another daemon may be about to lock it


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--listen", "nonsense"], "'nonsense' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "is not HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "set OUTLAST_TOKEN"),
        (["--config", "/no/such/file"], "/no/such/file cannot be read"),
        (["--state-dir", "/proc/nowhere"], "/proc/nowhere cannot be used"),
    ],
)
async def test_wrong_flags_are_reported(state_dir: Path, flags: list[str], says: str) -> None:
    code, output = await outlast("serve", "--listen", "127.0.0.1:0", "--state-dir", str(state_dir), *flags)
    assert code == 1
    assert says in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense = 1", "unknown setting: nonsense"),
        ('inherit_env = "HOME"', "inherit_env must be an array of names"),
        ('inherit_env = ["A=B"]', "inherit_env must be an array of names"),
        ('log_level = "loud"', 'log_level must be "debug", "info", "warning" or "error", not \'loud\''),
        ("log_format = 1", 'log_format must be "text" or "json", not 1'),
        ('access_log = "yes"', "access_log must be true or false"),
        ('metrics_tags = "team"', "metrics_tags must be an array of names of tags"),
        ('metrics_tags = ["team", ""]', "metrics_tags must be an array of names of tags"),
        ('metrics_tags = ["a.b", "a-b"]', "two tags for one label: tag_a_b"),
        ('inherit_env = ["OUTLAST_TOKEN"]', "inherit_env must not contain OUTLAST_TOKEN"),
        ("listen = 1", "listen must be an address"),
        ("durable = 1", "durable must be true or false"),
        ("compress = 'zstd'", 'compress must be "auto" or "off", not \'zstd\''),
        ("compress = false", 'compress must be "auto" or "off", not False'),
        ("stop_grace_ms = -1", "must not be negative"),
        ("keep_total_bytes = '101%'", "keep_total_bytes must be a part of the file system, such as"),
        ("keep_total_bytes = '20 GB'", "keep_total_bytes must be a part of the file system, such as"),
        ("keep_total_bytes = -1", "keep_total_bytes must be a part of the file system, such as"),
        ("keep_process_bytes = '20%'", "keep_process_bytes must be a number of bytes, such as"),
        ("keep_process_bytes = true", "keep_process_bytes must be a number of bytes, such as"),
        ("keep_output_s = '1h'", "keep_output_s must be an integer"),
        (
            "keep_process_bytes = '3 MiB'\nkeep_total_bytes = '2 MiB'",
            "keep_process_bytes (3145728) is more than keep_total_bytes (2097152, here 2097152 bytes)",
        ),
        ("token = 'x'", "token is not allowed in this file"),
        ("=", "is not valid TOML"),
        ("storage = 'nosuch://x'", "no storage plug-in is named 'nosuch'"),
    ],
)
async def test_wrong_settings_in_the_file_are_reported(state_dir: Path, tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    code, output = (
        await outlast("serve", "--listen", "127.0.0.1:0", "--state-dir", str(state_dir), "--config", str(config))
        if "listen" not in text
        else await outlast("serve", "--state-dir", str(state_dir), "--config", str(config))
    )
    assert code == 1
    assert says in output
    assert "Traceback" not in output


async def test_flags_stand_above_environment_above_file(state_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'listen = "127.0.0.1:1"\nstate_dir = "{tmp_path / "from-file"}"\nstorage = "memory:"\n')
    daemon = Daemon(state_dir, OUTLAST_CONFIG=str(config), OUTLAST_STATE_DIR=str(tmp_path / "from-environment"))
    try:
        await daemon.start()
        await daemon.ended(await daemon.sh("echo x"))
        assert not (tmp_path / "from-file").exists()
        assert not (tmp_path / "from-environment").exists()
        assert not (state_dir / "outlast.db").exists()  # the file's, which nothing stands above
    finally:
        await daemon.end_everything()


async def test_the_daemon_listens_on_a_unix_socket(state_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    process = await asyncio.create_subprocess_exec(
        *OUTLAST,
        *("serve", "--state-dir", str(state_dir), "--listen", f"unix:{path}"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OUTLAST_TOKEN": "secret"},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == f"listening on unix:{path}\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with session.get("http://local/api/v1/health") as response:
            assert response.status == 401
        async with session.get("http://local/api/v1/health", headers={"Authorization": "Bearer secret"}) as response:
            assert response.status == 200
    process.terminate()
    assert await process.wait() == 0
    close_pipes(process)
    assert (await outlast("shutdown", "--state-dir", str(state_dir)))[0] == 0
    assert not path.exists()


async def test_a_state_folder_may_have_a_very_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    daemon = Daemon(folder)
    folder.parent.mkdir()
    try:
        await daemon.start()
        process = await daemon.sh("echo deep")
        await daemon.ended(process)
        await daemon.kill()
        await daemon.start()
        assert await daemon.lines(process) == ["deep"]
    finally:
        await daemon.end_everything()
    assert left_over(folder) == []


async def test_the_shim_is_not_ended_by_mistake(daemon: Daemon) -> None:
    process = await daemon.run("cat", stdin_mode="pipe")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None

    def is_logged(text: str) -> bool:
        return text in (daemon.state_dir / "shim.log").read_text()

    os.kill(shim, signal.SIGHUP)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(shim, number)
        await eventually(partial(is_logged, f"ignored {number.name}"))
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"alive\n")
    await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
    await daemon.ended(process)
    assert await daemon.raw(process) == b"alive\n"


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["init"], ["shutdown"], ["sql"], ["shim"], ["shim", "upgrade"]], ids=" ".join
)
async def test_help_fits_eighty_columns(command: list[str]) -> None:
    code, output = await outlast(*command, "--help")
    assert code == 0
    assert [line for line in output.splitlines() if len(line) > 80] == []
    assert not [line for line in output.splitlines() if line.endswith("...") and "COMMAND" not in line]

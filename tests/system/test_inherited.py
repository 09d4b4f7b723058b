"""Things that the daemon inherits from its caller: standard streams that are closed, full or broken, and signals."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import OUTLAST, QUICK, Daemon, is_running, shim_pid
from tests.support.waiting import DEADLINE_S, eventually

ALL_CLOSED = "<&- >&- 2>&-"


def full_pipe() -> tuple[int, int]:
    """A pipe that nobody reads and that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    return reader, writer


async def is_healthy(path: Path) -> bool:
    """Tell whether a daemon answers at a unix socket."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), DEADLINE_S)
    writer.close()
    return b" 200 " in status


async def serve(state_dir: Path, redirections: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start a daemon by a shell with redirections, and wait until it answers."""
    path = state_dir.parent / "api.sock"
    command = ["bash", "-c", f'exec "$@" {redirections}', "bash", *OUTLAST, "serve"]
    daemon = subprocess.Popen(
        [*command, "--state-dir", str(state_dir), "--listen", f"unix:{path}"],
        env={**os.environ, **QUICK, "OUTLAST_TOKEN": "secret"},
        pass_fds=pass_fds,
    )

    async def is_up_or_dead() -> bool:
        return daemon.poll() is not None or await is_healthy(path)

    await eventually(is_up_or_dead)
    return daemon


async def end(daemon: subprocess.Popen[bytes], state_dir: Path) -> None:
    """End a daemon in order, and everything else."""
    try:
        assert daemon.poll() is None
        daemon.terminate()
        assert await asyncio.to_thread(daemon.wait, DEADLINE_S) == 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        await Daemon(state_dir).end_everything()


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", ALL_CLOSED, "</dev/null >/dev/full 2>/dev/full"])
async def test_a_daemon_serves_and_ends_whatever_its_streams_are(state_dir: Path, redirections: str) -> None:
    await end(await serve(state_dir, redirections), state_dir)


async def test_no_file_of_the_daemon_gets_the_number_of_a_standard_stream(state_dir: Path) -> None:
    daemon = await serve(state_dir, ALL_CLOSED)
    try:
        assert [str(Path(f"/proc/{daemon.pid}/fd/{fd}").readlink()) for fd in range(3)] == [os.devnull] * 3
    finally:
        await end(daemon, state_dir)


@pytest.mark.parametrize("make", [full_pipe, os.pipe], ids=["full", "broken"])
async def test_nobody_has_to_read_what_the_daemon_says(state_dir: Path, make: Callable[[], tuple[int, int]]) -> None:
    reader, writer = make()
    if make is os.pipe:
        os.close(reader)
    daemon = await serve(state_dir, f">&{writer} 2>&{writer}", (writer,))
    os.close(writer)
    try:
        shim = shim_pid(state_dir)
        assert shim is not None
        os.kill(shim, signal.SIGKILL)  # that is logged
        await eventually(lambda: shim_pid(state_dir) not in {None, shim})
        await eventually(lambda: is_healthy(state_dir.parent / "api.sock"))
    finally:
        await end(daemon, state_dir)
        if make is full_pipe:
            os.close(reader)


async def test_down_ends_everything_though_nobody_can_be_told(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    await daemon.hang_up()
    down = [*OUTLAST, "shutdown", "--state-dir", str(daemon.state_dir)]
    full = os.open("/dev/full", os.O_WRONLY)
    assert await asyncio.to_thread(subprocess.call, down, stdout=full, stderr=full) == 0
    os.close(full)
    assert not is_running(process["pid"])


async def test_a_result_that_cannot_be_written_is_an_error(daemon: Daemon) -> None:
    command = [*OUTLAST, "sql", "--state-dir", str(daemon.state_dir), "SELECT 1"]
    full = os.open("/dev/full", os.O_WRONLY)
    ended = await asyncio.to_thread(subprocess.run, command, stdout=full, stderr=subprocess.PIPE, check=False)
    os.close(full)
    assert ended.returncode == 1
    assert ended.stderr == b"Error: the result cannot be written to standard output: No space left on device\n"


async def test_a_shim_starts_without_its_log(state_dir: Path) -> None:
    (state_dir / "shim.log").mkdir(parents=True)
    state_dir.chmod(0o700)
    daemon = Daemon(state_dir)
    try:
        await daemon.start()
        assert "the shim has no log" in daemon.log
        await daemon.ended(await daemon.run("true"))
    finally:
        await daemon.end_everything()


IGNORED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1)


_OF_LIBC = 1 << 31 | 1 << 32


def ignore_and_block() -> None:
    """Make signals as a bad caller leaves them."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def signals_of(pid: int) -> dict[str, int]:
    """The blocked and the ignored signals of a process, less two that the C library lets nobody change."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t") for line in lines if line.startswith(("SigBlk", "SigIgn")))
    return {name: int(value, 16) & ~_OF_LIBC for name, value in fields.items()}


@pytest.mark.parametrize("command", [[], ["init", "--"]], ids=["serve", "init"])
async def test_signals_that_a_caller_blocks_or_ignores_work(state_dir: Path, command: list[str]) -> None:
    daemon = Daemon(state_dir)
    words = [*OUTLAST, *(["init", "--state-dir", str(state_dir), "--", *OUTLAST] if command else [])]
    words += ["serve", "--listen", "127.0.0.1:0", "--state-dir", str(state_dir)]
    first = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        env={**os.environ, **QUICK},
        preexec_fn=ignore_and_block,  # noqa: PLW1509 - the test has no other thread that could hold a lock
    )
    try:
        assert first.stdout is not None
        daemon.url = (await asyncio.to_thread(first.stdout.readline)).decode().split()[-1]
        process = await daemon.run("sleep", "1000")
        assert signals_of(process["pid"]) == {"SigBlk": 0, "SigIgn": 0}
        assert (await daemon.ended(await daemon.run("true")))["exit_code"] == 0
        assert await daemon.call("POST", "/sql", 200, {"query": "SELECT 1 AS one"})
        await daemon.hang_up()
        first.terminate()
        assert await asyncio.to_thread(first.wait, DEADLINE_S) == 0
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
        assert first.stdout is not None
        first.stdout.close()
        await daemon.end_everything()


async def test_a_daemon_that_nohup_has_started_ignores_a_hangup(state_dir: Path) -> None:
    daemon = Daemon(state_dir)
    daemon.command = ["nohup", *OUTLAST]
    try:
        await daemon.start()
        os.kill(daemon.pid, signal.SIGHUP)
        assert await daemon.call("GET", "/health", 200) == {"healthy": True}
    finally:
        await daemon.end_everything()

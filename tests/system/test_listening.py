"""The sockets of the HTTP API outlive the daemon: no other program can listen in between, and clients wait."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.http_client import HttpClient
from tests.support.daemon import Daemon, is_running, outlast, shim_pid, wait_for_another_shim
from tests.support.health import wait_until_healthy
from tests.support.waiting import DEADLINE_S, eventually

INTRUDER = """
import errno, os, socket, sys
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    sock = socket.socket(family)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        sock.bind((host, int(sys.argv[1])))
        sock.listen()
    except OSError as exc:
        print(errno.errorcode[exc.errno])
    else:
        print("caught")
"""


def port_of(daemon: Daemon) -> int:
    return int(daemon.url.rpartition(":")[2])


async def intrude(port: int) -> set[str]:
    """Let another user's program try to listen at a port; return what came of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTRUDER, str(port), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return set(output.decode().split())


@contextlib.asynccontextmanager
async def asked(daemon: Daemon) -> AsyncIterator[asyncio.StreamReader]:
    """Connect and ask for the health, as a client does that does not know whether a daemon runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(daemon))
    writer.write(f"GET /api/v1/health HTTP/1.0\r\nAuthorization: Bearer {daemon.token}\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.close()


async def is_answered(reader: asyncio.StreamReader) -> bool:
    return (await asyncio.wait_for(reader.read(), DEADLINE_S)).startswith(b"HTTP/1.0 200 ")


async def test_a_port_that_was_any_free_one_can_be_named_later(daemon: Daemon) -> None:
    port = port_of(daemon)
    await daemon.kill()
    async with asked(daemon) as reader:
        await daemon.start("--listen", f"127.0.0.1:{port}")
        assert await is_answered(reader)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nobody_else_can_listen_while_no_daemon_runs_and_requests_wait(daemon: Daemon, number: int) -> None:
    port = port_of(daemon)
    await daemon.stop(number)
    assert await intrude(port) == {"EADDRINUSE"}
    async with asked(daemon) as reader:
        await daemon.start()
        assert port_of(daemon) == port
        assert await is_answered(reader)


async def test_a_client_that_gave_up_while_no_daemon_ran_starts_nothing(daemon: Daemon) -> None:
    port, token = port_of(daemon), daemon.token
    await daemon.kill()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"command": "true"})
    writer.write(
        f"POST /api/v1/processes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await daemon.start()
    async with asked(daemon) as reader:  # it comes behind that client
        assert await is_answered(reader)
    assert (await daemon.call("GET", "/processes", 200))["processes"] == []


async def test_the_socket_outlives_the_shim_and_an_upgrade(daemon: Daemon) -> None:
    port, shim = port_of(daemon), shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await wait_for_another_shim(daemon, shim)
    await wait_until_healthy(daemon)
    await daemon.kill()
    assert (await outlast("shim", "upgrade", "--state-dir", str(daemon.state_dir)))[0] == 0
    assert await intrude(port) == {"EADDRINUSE"}
    async with asked(daemon) as reader:
        await daemon.start()
        assert await is_answered(reader)


async def test_daemon_and_shim_can_both_be_killed(daemon: Daemon) -> None:
    port, shim = port_of(daemon), shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGSTOP)  # else the daemon may replace it first
    await daemon.kill()
    os.kill(shim, signal.SIGKILL)
    await eventually(lambda: not is_running(shim))
    await daemon.start("--listen", f"127.0.0.1:{port}")
    await wait_until_healthy(daemon)


async def test_another_address_frees_the_one_before(daemon: Daemon) -> None:
    before = port_of(daemon)
    await daemon.kill()
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    await daemon.start("--listen", f"127.0.0.1:{other}")
    assert port_of(daemon) == other
    assert await intrude(before) == {"caught"}
    await daemon.stop()
    assert await intrude(other) == {"EADDRINUSE"}
    await daemon.start("--listen", f"localhost:{other}")  # it takes one address from the shim, and binds the other
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, other)).close()


async def test_down_frees_the_port(daemon: Daemon) -> None:
    port = port_of(daemon)
    await daemon.end_everything()
    assert await intrude(port) == {"caught"}


async def test_a_daemon_that_cannot_start_leaves_the_socket_with_the_shim(daemon: Daemon) -> None:
    port = port_of(daemon)
    await daemon.kill()
    daemon.environment["OUTLAST_STORAGE"] = "nonsense:"
    await daemon.launch()
    assert await daemon.announcement() == ""
    await daemon.stop(0)
    assert await intrude(port) == {"EADDRINUSE"}
    del daemon.environment["OUTLAST_STORAGE"]
    await daemon.start()
    assert port_of(daemon) == port


async def test_localhost_is_both_addresses(state_dir: Path) -> None:
    daemon = Daemon(state_dir)
    try:
        await daemon.start("--listen", "localhost:0")
        port = port_of(daemon)
        for host in ("127.0.0.1", "[::1]", "localhost"):
            async with daemon.session.get(f"http://{host}:{port}/api/v1/health") as health:
                assert health.status == 200
        await daemon.kill()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()
        await daemon.start("--listen", "localhost:0")
        assert port_of(daemon) == port
    finally:
        await daemon.end_everything()


async def test_a_unix_socket_outlives_the_daemon_and_goes_with_down(state_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listen = ("--listen", f"unix:{path}")
    daemon = Daemon(state_dir)
    try:
        await daemon.start(*listen)
        made = path.stat().st_ino
        await daemon.stop()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(f"GET /api/v1/health HTTP/1.0\r\nAuthorization: Bearer {daemon.token}\r\n\r\n".encode())
            await daemon.start(*listen)
            assert path.stat().st_ino == made
            assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.0 200 ")
        await daemon.kill()
        path.unlink()
        await daemon.start(*listen)  # a new file: the old socket has none any more
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    finally:
        await daemon.end_everything()
    assert not path.exists()


async def test_down_leaves_a_unix_socket_of_somebody_else(state_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    daemon = Daemon(state_dir)
    await daemon.start("--listen", f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await daemon.end_everything()
        assert path.exists()


async def test_a_unix_socket_stands_beside_a_port(state_dir: Path, tmp_path: Path) -> None:
    """Both are with the shim when the daemon dies, both are told, and both serve again."""
    path = tmp_path / "api.sock"
    daemon = Daemon(state_dir)
    try:
        for _ in range(2):
            await daemon.start("--listen", "127.0.0.1:0", "--listen", f"unix:{path}")
            assert (state_dir / "address").read_text() == f"{daemon.url}\nunix:{path}\n"
            async with HttpClient(token=daemon.token, unix_socket=path) as client:
                assert await client.get("/health") == await daemon.call("GET", "/health", 200) == {"healthy": True}
            url = daemon.url
            await daemon.kill()
            assert stat.S_ISSOCK(path.stat().st_mode)
        await daemon.start("--listen", "127.0.0.1:0", "--listen", f"unix:{path}")
        assert daemon.url == url
    finally:
        await daemon.end_everything()
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "environment", "phrase"),
    [
        ("listen = []", "", "listen must be an address"),
        ("listen = [1]", "", "listen must be an address"),
        ("listen = 5", "", "listen must be an address"),
        ('listen = ["127.0.0.1:0", "nonsense"]', "", "listen 'nonsense' is not HOST:PORT"),
        ('listen = ["127.0.0.1:0", "127.0.0.1:0"]', "", "listen names 127.0.0.1:0 twice"),
        ("", "127.0.0.1:0,0.0.0.0:0", "listening on 0.0.0.0 makes the daemon reachable"),
        ("", "127.0.0.1:0,unix:/no/such/folder/x", "cannot listen on unix:/no/such/folder/x"),
    ],
)
async def test_each_address_is_checked(tmp_path: Path, text: str, environment: str, phrase: str) -> None:
    config = tmp_path / "outlast.toml"
    config.write_text(text)
    variables = {"OUTLAST_LISTEN": environment} if environment else {}
    args = ["serve", "--state-dir", str(tmp_path / "state"), "--config", str(config)]
    code, said = await outlast(*args, **variables)
    assert code == 1
    assert phrase in said

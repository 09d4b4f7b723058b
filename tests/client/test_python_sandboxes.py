"""The official Python client's calls about sandboxes, and its tunnels."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tensorlake.sandbox import Sandbox, SandboxNotFoundError, SandboxStatus

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S

from .blocking import call

ECHO = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    while data := connection.recv(1 << 16):
        connection.sendall(data)
    connection.close()
"""
LARGE = bytes(range(256)) * (16 << 10)


@pytest.fixture
def where(daemon: Daemon) -> dict[str, str]:
    """How the client is pointed at a daemon, as by its environment variables."""
    return {"api_url": daemon.url, "api_key": daemon.token, "organization_id": "local", "project_id": "local"}


@pytest.fixture
async def created(where: dict[str, str]) -> AsyncIterator[Sandbox]:
    made = await call(Sandbox.create, image="any", name="mine", **where)
    yield made
    await call(made.terminate)


async def test_a_sandbox_is_this_machine(created: Sandbox, where: dict[str, str]) -> None:
    found = await call(Sandbox.connect, created.sandbox_id, **where)
    assert (await call(found.run, "echo", ["hello"])).stdout == "hello"
    info = await call(found.info)
    assert (info.sandbox_id, info.status) == ("local", SandboxStatus.RUNNING)
    assert info.resources.cpus >= 1
    assert [one.sandbox_id for one in await call(lambda: list(Sandbox.list(**where)))] == ["local"]


async def test_a_sandbox_that_is_terminated_goes_on(created: Sandbox, daemon: Daemon) -> None:
    process = await daemon.sh("sleep 1000")
    await call(created.terminate)
    assert (await daemon.get(process))["status"] == "running"


async def test_there_is_no_other_sandbox(where: dict[str, str]) -> None:
    with pytest.raises(SandboxNotFoundError):
        await call(Sandbox.connect, "another", **where)


async def test_a_tunnel_carries_bytes_both_ways(sandbox: Sandbox, daemon: Daemon) -> None:
    process = await daemon.python(ECHO)
    await daemon.wait_for_lines(process, 1)
    (line,) = (await daemon.call("GET", f"/processes/{process['id']}/stdout", 200))["lines"]
    tunnel = await call(sandbox.create_tunnel, int(line), local_port=0)
    try:
        reader, writer = await asyncio.open_connection(tunnel.address().host, tunnel.address().port)
        for _ in range(2):
            writer.write(LARGE)
            assert await asyncio.wait_for(reader.readexactly(len(LARGE)), DEADLINE_S) == LARGE
        await daemon.call("DELETE", f"/processes/{process['id']}", 204)
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()
    finally:
        await call(tunnel.close)


async def test_tunnels_end_with_the_daemon(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with daemon.session.ws_connect(f"{daemon.url}/api/v1/tunnels/tcp?port={port}") as tunnel:
            connection, _ = server.accept()
            with connection:
                assert daemon.process is not None
                daemon.process.terminate()
                message = await tunnel.receive(DEADLINE_S)
                assert tunnel.close_code == 1012, message
                connection.settimeout(DEADLINE_S)
                assert await asyncio.to_thread(connection.recv, 1) == b""


@pytest.mark.parametrize(
    ("query", "status", "phrase"),
    [
        ("", 400, "port is required"),
        ("?port=0", 400, "port must be"),
        ("?port=65536", 400, "port must be"),
        ("?port=x", 400, "port must be"),
        ("?port=1", 400, "this path is for websockets"),
    ],
)
async def test_wrong_tunnels_are_refused(daemon: Daemon, query: str, status: int, phrase: str) -> None:
    answer = await daemon.call("GET", f"/tunnels/tcp{query}", status)
    assert phrase in answer["error"]


async def test_a_tunnel_to_no_program_is_refused(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    answer = await daemon.call("GET", f"/tunnels/tcp?port={port}", 404, **upgrade, **key)
    assert f"no program listens on port {port}" in answer["error"]

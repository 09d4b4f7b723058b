"""Tunnels to programs that do not read, to clients that are gone, and to ports at which nobody listens."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from outlast.api.streaming import tunnel
from tests.support.waiting import DEADLINE_S

from .server import BEARER, Server, until

PIECE, PIECES = bytes(1 << 20), 24
"""More than the buffers of all connections on the way hold."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "PING_S", 0.05)
    monkeypatch.setattr(tunnel, "SILENCE_S", 0.2)


@pytest.fixture
def program() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        yield listener


def tunnel_to(server: Server, port: int, **options: Any) -> Any:
    url = server.client.address(f"/api/v1/tunnels/tcp?port={port}")
    return server.client.session.ws_connect(url, headers=BEARER, **options)


async def send_all(client: aiohttp.ClientWebSocketResponse) -> None:
    for _ in range(PIECES):
        await client.send_bytes(PIECE)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def read_all(connection: socket.socket) -> int:
    count = 0
    while data := connection.recv(1 << 20):
        count += len(data)
    return count


async def test_a_program_may_take_its_time(server: Server, program: socket.socket) -> None:
    async with tunnel_to(server, program.getsockname()[1], autoping=False) as client:
        connection = (await asyncio.to_thread(program.accept))[0]
        with connection:
            sending = asyncio.create_task(send_all(client))
            for _ in range(10):  # longer than a client may be silent that is not made to wait
                message = await client.receive(DEADLINE_S)
                assert message.type is aiohttp.WSMsgType.PING
                pong = asyncio.create_task(client.pong(message.data))
            assert not sending.done()
            connection.settimeout(DEADLINE_S)
            reading = asyncio.create_task(asyncio.to_thread(read_all, connection))
            await asyncio.gather(sending, pong)
            await client.close()
            assert await reading == PIECES * len(PIECE)


async def test_a_client_that_is_gone_leaves_no_tunnel_to_a_program_that_does_not_read(
    server: Server, program: socket.socket
) -> None:
    before = open_descriptors()
    client = await tunnel_to(server, program.getsockname()[1])
    connection = (await asyncio.to_thread(program.accept))[0]
    with connection:
        sending = asyncio.create_task(send_all(client))
        await asyncio.sleep(0.2)  # how much is on its way is up to chance
        client._response.connection.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
        await client.close()
        await until(lambda: open_descriptors() <= before + 1)


async def test_a_silent_client_is_given_up(server: Server, program: socket.socket) -> None:
    async with tunnel_to(server, program.getsockname()[1], autoping=False):
        connection = (await asyncio.to_thread(program.accept))[0]
        with connection:
            connection.settimeout(DEADLINE_S)
            assert await asyncio.to_thread(connection.recv, 1) == b""


async def test_no_tunnel_leads_to_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel connects a socket to itself, if it happens to take the port that is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connect = asyncio.open_connection

    async def from_that_port(host: str, number: int, **options: Any) -> Any:
        return await connect(host, number, local_addr=(host, number), **options)

    monkeypatch.setattr(asyncio, "open_connection", from_that_port)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await tunnel_to(server, port)
    assert refused.value.status == 404

"""The bounds on a client without the token: in bytes, seconds, connections and log lines."""

import asyncio
import logging
import resource

import pytest

from outlast.api import gate
from outlast.api import server as http_server

from .server import TOKEN, Server, serving
from .stub import StubManager

GOOD = f"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
BAD = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n\r\n"
GARBAGE = {
    "bytes": b"\xff" * 65536,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "text": b"hello\r\n\r\n",
    "endless": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    "one long line": b"GET /" + b"a" * 100_000,
}


async def rest(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 10)


async def is_dropped(reader: asyncio.StreamReader) -> bool:
    try:
        return await rest(reader) == b""
    except ConnectionError:
        return True


async def is_served(server: Server) -> bool:
    reader, _ = await server.connect(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"))
    return (await rest(reader)).startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_gets_one_400_and_the_end(server: Server, garbage: bytes) -> None:
    reader, writer = await server.connect(garbage)
    answer = await rest(reader)
    writer.write(garbage)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 4") == 1
    assert b'"code":"INVALID_REQUEST"' in answer
    assert server.connections == 0


async def test_refusals_are_one_line_in_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        for data in (*GARBAGE.values(), BAD):
            reader, _ = await server.connect(data)
            await rest(reader)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert len(record.getMessage()) < 100


async def test_without_the_token_there_is_one_answer_and_no_body_is_read(server: Server, manager: StubManager) -> None:
    """Later requests on the connection are dropped, also those with the token."""
    post = BAD.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 1000000\r\n\r\n")
    for data in (
        BAD + GOOD,
        BAD * 1000,
        post + b"x" * 1_000_000,
        post.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
    ):
        reader, _ = await server.connect(data)
        answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.count(b"HTTP/1.1 4") == 1
        assert b"\r\nConnection: close\r\n" in answer
    assert server.connections == 0
    assert manager.calls == []


async def test_a_head_may_come_byte_by_byte(server: Server) -> None:
    reader, writer = await server.connect(b"")
    for byte in GOOD:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200 ")


async def test_requests_behind_the_first_are_served(server: Server) -> None:
    reader, _ = await server.connect(GOOD * 20 + GOOD.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    assert (await rest(reader)).count(b"HTTP/1.1 200 ") == 21


async def test_a_later_request_without_the_token_ends_the_connection(server: Server) -> None:
    reader, _ = await server.connect(GOOD + BAD + GOOD)
    answers = await rest(reader)
    assert [answers.count(b"HTTP/1.1 %d " % status) for status in (200, 401)] == [1, 1]


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half a head"])
async def test_a_connection_that_does_not_show_the_token_in_time_is_closed(
    server: Server, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "HEAD_S", 0.05)
    reader, _ = await server.connect(data)
    assert await is_dropped(reader)
    assert await is_served(server)


@pytest.mark.parametrize("name", ["MAX_WAITING", "MAX_WAITING_OF_CLIENT"])
async def test_of_too_many_that_wait_the_oldest_goes(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, name, 10)
    follower, _ = await server.connect(GOOD)
    await asyncio.wait_for(follower.readline(), 10)
    silent = [(await server.connect(b"G"))[0] for _ in range(30)]
    assert await is_served(server)
    for reader in silent[:20]:
        assert await is_dropped(reader)
    assert not any(reader.at_eof() for reader in silent[21:])
    assert server.connections  # who has shown the token does not count


async def test_descriptors_are_left_for_the_store_and_processes(
    manager: StubManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older connections give way; if all have shown the token, a new one gets 503 at once."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    async with serving(manager) as server:
        silent = [(await server.connect(b"G"))[0] for _ in range(60)]
        assert await is_served(server)
        assert await is_dropped(silent[0])
        await server.close()
        answers: list[bytes] = []
        while len(answers) < 60 and not (answers and b" 503 " in answers[-1]):
            reader, _ = await server.connect(GOOD)
            answers.append(await asyncio.wait_for(reader.readline(), 10))
        assert b" 503 " in answers[-1]
        assert b"\r\nRetry-After: " in await rest(reader)


async def test_an_idle_connection_is_closed_after_a_while(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 0.05)
    reader, _ = await server.connect(GOOD)
    assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("127.0.0.1", 1), "127.0.0.1"),
        (("::1", 1, 0, 0), "::/64"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8::1:2", 1, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_an_address_or_a_network_counts_as_one_client(peer: tuple[str, ...] | str | None, client: str) -> None:
    assert gate._client(peer) == client

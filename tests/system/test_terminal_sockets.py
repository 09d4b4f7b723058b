"""Clients of a terminal: who gets in, what they are sent, and that none disturbs another, whatever it sends."""

import asyncio
import base64
import contextlib
import os
import random
import socket
import sqlite3
import struct
from typing import Any, cast

import aiohttp
import pytest

from tests.support.daemon import Daemon
from tests.support.terminal import TerminalClient, attach, create
from tests.support.waiting import eventually

LINES = 2_000_000
FLOOD = f"stty -opost; seq {LINES}; echo over; read x"


async def refusal(daemon: Daemon, path: str, **headers: str) -> tuple[int, str | None]:
    """Return status and code with which a websocket is refused."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        **headers,
    }
    async with daemon.session.get(f"{daemon.url}/api/v1/pty/{path}", headers=upgrade) as answer:
        return answer.status, (await answer.json())["code"]


async def wait_for_size(daemon: Daemon, session: dict[str, Any], *, rows: int, cols: int) -> None:
    async def has_size() -> bool:
        seen = await daemon.call("GET", f"/pty/{session['session_id']}", 200)
        return (seen["rows"], seen["cols"]) == (rows, cols)

    await eventually(has_size)


async def test_who_has_no_token_of_the_daemon_gets_no_websocket(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    url = f"{daemon.url}/api/v1/pty/{session['session_id']}/ws?token={session['token']}"
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stranger.ws_connect(url)
        assert refused.value.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stranger.ws_connect(url, headers={"Authorization": f"Bearer {session['token']}"})
        assert refused.value.status == 401


async def test_a_page_of_another_site_gets_no_websocket(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    url = f"{daemon.url}/api/v1/pty/{session['session_id']}/ws"
    password = base64.b64encode(f"any:{daemon.token}".encode()).decode()
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {password}"}) as browser:
        for foreign in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await browser.ws_connect(url, headers=foreign)
            assert refused.value.status == 403
        async with browser.ws_connect(url, headers={"Origin": daemon.url}) as own:
            await own.send_bytes(b"\0x\4")


async def test_the_token_of_a_session_is_checked(daemon: Daemon) -> None:
    session, other = await create(daemon, "cat"), await create(daemon, "cat")
    path, token = f"{session['session_id']}/ws", session["token"]
    for wrong in (other["token"], "", "0" * 64, token.upper(), token[:-1], token + "0", "ü" * 64):
        headers = {"X-PTY-Token": wrong} if wrong.isascii() else {}
        assert await refusal(daemon, f"{path}?token={wrong}") == (403, "INVALID_TOKEN")
        assert await refusal(daemon, f"{path}?token={token if headers else wrong}", **headers) == (403, "INVALID_TOKEN")
    assert await refusal(daemon, "no-such/ws?token=0") == (404, "SESSION_NOT_FOUND")
    for query, headers in (
        (f"?token={token}", {}),
        ("", {"X-PTY-Token": token}),
        (f"?token={other['token']}", {"X-PTY-Token": token}),
        ("", {}),
    ):
        async with daemon.session.ws_connect(f"{daemon.url}/api/v1/pty/{path}{query}", headers=headers) as opened:
            await opened.send_bytes(b"\2")


async def test_names_that_clients_send_do_not_keep_them_out(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    url = f"{daemon.url}/api/v1/pty/{session['session_id']}/ws"
    headers = {"Host": "local.local", "Origin": "http://local.local", "X-Tensorlake-Sandbox-Id": "local"}
    async with daemon.session.ws_connect(url, headers=headers) as opened:
        await opened.send_bytes(b"\2")


async def test_what_is_no_websocket_is_refused(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    path = f"/pty/{session['session_id']}/ws"
    assert (await daemon.call("GET", path, 400))["code"] == "INVALID_REQUEST"
    await daemon.call("HEAD", path, 400)
    assert await refusal(daemon, f"{session['session_id']}/ws", **{"Sec-WebSocket-Version": "12"}) == (
        400,
        "INVALID_REQUEST",
    )


async def test_nothing_is_sent_before_the_client_is_ready(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "echo hello; read x; echo got $x")
    await daemon.wait_for_lines({"id": session["session_id"]}, 1)
    async with attach(daemon, session, is_ready=False) as client:
        await client.type("typed\n")
        await daemon.wait_for_lines({"id": session["session_id"]}, 3)
        with pytest.raises(TimeoutError):
            await client.socket.receive(timeout=0.2)
        await client.ready()
        assert await client.ended() == (0, 1000)
        assert client.output == b"hello\r\ntyped\r\ngot typed\r\n"


async def test_all_clients_see_and_type(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as one, attach(daemon, session) as other:
        for number, client in enumerate((one, other, one)):
            await client.type(f"{number}\n")
            await one.shows(str(number))
            await other.shows(str(number))
        await other.type("\4")
        assert await one.ended() == await other.ended() == (0, 1000)
        assert one.output == other.output == b"0\r\n0\r\n1\r\n1\r\n2\r\n2\r\n"


async def test_a_key_is_shown_at_once_although_nothing_can_be_stored(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as client:
        await client.type("ready\n")
        await eventually(lambda: client.output == b"ready\r\nready\r\n")
        with contextlib.closing(sqlite3.connect(daemon.state_dir / "outlast.db", isolation_level=None)) as other:
            await eventually(lambda: locks(other))
            await client.type("key")
            await eventually(lambda: client.output.endswith(b"key"))
            other.execute("ROLLBACK")


def locks(database: sqlite3.Connection) -> bool:
    """Keep everyone else from writing, if nobody writes now."""
    try:
        database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


async def test_a_terminal_has_the_size_of_the_client_that_typed_last(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "while read x; do stty size; done")
    async with attach(daemon, session) as one, attach(daemon, session) as other:
        await one.resize(cols=100, rows=30)
        await wait_for_size(daemon, session, rows=30, cols=100)
        await other.resize(cols=70, rows=20)
        await wait_for_size(daemon, session, rows=20, cols=70)
        await other.type("\n")
        await other.shows("20 70")
        await one.type("\n")
        await one.shows("30 100")


async def test_a_reader_continues_behind_what_it_has(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session, query="?after=0") as client:
        await client.type("one\n")
        await eventually(lambda: client.output == b"one\r\none\r\n")
        assert client.position == 0
    async with attach(daemon, session, query="?after=5") as client:
        await client.type("two\n")
        await eventually(lambda: client.output == b"one\r\ntwo\r\ntwo\r\n")
        assert client.position == 5
    await daemon.kill()
    await daemon.start()
    async with attach(daemon, session, query="?after=15") as client:
        await client.type("\4")
        assert await client.ended() == (0, 1000)
        assert client.position == 15
        assert client.output == b"two\r\n"
    async with attach(daemon, session, query="?after=1000000") as client:
        assert await client.ended() == (0, 1000)
        assert client.position == 20
        assert not client.output


async def test_who_is_shown_the_screen_may_be_told_how_far_that_is(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", "echo hello; exec cat")
    async with attach(daemon, session) as plain:
        await plain.shows("hello")
        async with attach(daemon, session, query="?positions=true") as client:
            await eventually(lambda: client.position == len(b"hello\r\n"))
            await client.type("x")
            await eventually(lambda: client.output == b"hello\r\nx")
            assert client.position == len(b"hello\r\n")
        assert plain.position is None


async def test_a_slow_reader_gets_everything_and_nobody_waits_for_it(daemon: Daemon) -> None:
    session = await create(daemon, "sh", "-c", FLOOD)
    whole = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode() + b"over\n"
    async with attach(daemon, session, query="?after=0", is_ready=False) as slow:
        transport = cast("Any", slow.socket._response.connection).transport
        await slow.socket.send_bytes(b"\2")
        transport.pause_reading()
        async with attach(daemon, session, query="?after=0") as fast:
            await eventually(lambda: fast.output.endswith(b"over\n"), deadline_s=60)
            assert fast.output == whole
            await fast.type("\n")
            assert await fast.ended() == (0, 1000)
        transport.resume_reading()
        await slow.ready()
        assert await slow.ended() == (0, 1000)
        assert slow.output == fast.output


async def test_a_program_that_does_not_read_slows_only_those_who_type_to_it(daemon: Daemon) -> None:
    deaf = await create(daemon, "sh", "-c", "stty raw -echo; echo ready; sleep 1000")
    witness = await create(daemon, "cat")
    async with attach(daemon, deaf) as client, attach(daemon, witness) as other:
        await client.shows("ready")

        async def type_much() -> None:
            for _ in range(200):
                await client.type(b"x" * 100_000)

        typing = asyncio.create_task(type_much())
        await asyncio.sleep(0)
        for number in range(20):
            await other.type(f"line {number}\n")
            await other.shows(f"line {number}")
        assert not typing.done()  # the client's own network has to wait
        typing.cancel()
        await asyncio.gather(typing, return_exceptions=True)
        await daemon.call("DELETE", f"/pty/{deaf['session_id']}", 204)


async def test_a_stopping_daemon_says_so_and_the_terminal_goes_on(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as client, attach(daemon, session, is_ready=False) as other:
        await client.type("before\n")
        await client.shows("before")
        await other.socket.send_bytes(b"\0")
        assert daemon.process is not None
        daemon.process.terminate() if hasattr(daemon.process, "terminate") else os.kill(daemon.pid, 15)
        assert (await client.ended())[1] == 1012
        assert (await other.socket.receive(timeout=20)).type is aiohttp.WSMsgType.CLOSE
    await daemon.stop(0)
    await daemon.start()
    async with attach(daemon, session) as client:
        await client.shows("before")
        await client.type("\4")
        assert await client.ended() == (0, 1000)


async def test_a_terminal_that_others_keep_open_ends_with_its_program(daemon: Daemon) -> None:
    session = await create(
        daemon, "sh", "-c", "setsid sh -c 'trap \"\" HUP; echo started; sleep 1000' & read x; exit 6"
    )
    async with attach(daemon, session) as client:
        await client.shows("started")
        await client.type("\n")
        assert await client.ended() == (6, 1000)
    assert (await daemon.call("GET", f"/processes/{session['session_id']}", 200))["exit_code"] == 6
    await daemon.call("DELETE", f"/processes/{session['session_id']}", 204)


# ---- what no client sends


async def test_too_large_a_message_ends_only_the_connection(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as client:
        await client.type(b"x" * (1 << 20))
        assert (await client.ended())[1] == 1009
    async with attach(daemon, session) as client:
        await client.type("hello\n")
        await client.shows("hello")


@pytest.mark.parametrize("message", [b"\1\0\x50\0\x18", b"\2", b"\7", b""])
async def test_a_client_that_sends_too_many_messages_is_sent_away(daemon: Daemon, message: bytes) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(5000):
                await client.socket.send_bytes(message)
        assert (await client.ended())[1] == 1008


def message(rng: random.Random) -> bytes:
    """Make what a client might send as one message, or nearly."""
    kind = rng.choice([0, 1, 1, 2, 3, 4, 255, rng.randrange(256)])
    return bytes([kind]) + rng.randbytes(rng.choice([0, 1, 3, 4, 5, 8, 100, 5000])) if rng.random() < 0.95 else b""


def frame(rng: random.Random) -> bytes:
    """Make what a client might send as one frame of the websocket protocol, or nearly."""
    data = message(rng)
    head = rng.choice([0x82, 0x82, 0x81, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xF2, rng.randrange(256)])
    mask = rng.random() < 0.9
    size = rng.choice([len(data)] * 8 + [rng.randrange(1 << 16), 1 << 40])
    length = bytes([size | mask << 7]) if size < 126 else bytes([126 | mask << 7]) + struct.pack(">H", size & 0xFFFF)
    if size >= 1 << 16:
        length = bytes([127 | mask << 7]) + struct.pack(">Q", size)
    key = rng.randbytes(4) if mask else b""
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(data)) if mask else data
    return bytes([head]) + length + key + masked


async def send_raw(daemon: Daemon, session: dict[str, Any], data: bytes) -> None:
    """Open a websocket by hand, send bytes over it, and close it."""
    host, port = daemon.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /api/v1/pty/{session['session_id']}/ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {daemon.token}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        await writer.drain()
        if random.Random(data).random() < 0.5:
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await asyncio.wait_for(reader.read(1 << 20), 0.05)
    writer.transport.abort()


async def test_no_sequence_of_frames_changes_anything_else(daemon: Daemon) -> None:
    target = await create(daemon, "sh", "-c", "stty raw -echo; exec cat > /dev/null")
    witness = await create(daemon, "cat", rows=30, cols=90)
    rng = random.Random(int(os.environ.get("SEED", "1")))
    async with attach(daemon, witness) as other:
        for number in range(150):
            frames = b"".join(frame(rng) for _ in range(rng.choice([1, 3, 20])))
            await send_raw(daemon, target, rng.choice([frames, frames, rng.randbytes(200)]))
            if number % 10 == 0:
                await other.type(f"line {number}\n")
                await other.shows(f"line {number}")
        seen = await daemon.call("GET", f"/pty/{witness['session_id']}", 200)
        assert (seen["rows"], seen["cols"]) == (30, 90)
    assert (await daemon.call("GET", f"/pty/{target['session_id']}", 200))["is_alive"]
    assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 2
    assert "Traceback" not in daemon.log
    async with attach(daemon, target) as client:
        assert isinstance(client, TerminalClient)
        await client.socket.ping()

"""Streams of a real daemon that something cuts short: a purge under a slow reader, the end of the daemon."""

import asyncio
import signal
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

PRINT = "import sys\nsys.stdout.write('0123456789abcde\\n' * 1_000_000)"
LAST_CHUNK = b"0\r\n\r\n"
RECEIVE_BYTES = 64 << 10
FORMS = pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("output/follow", "text/event-stream"),
        ("output", "application/json"),
        ("output", "application/x-ndjson"),
        ("stdout", "application/octet-stream"),
    ],
    ids=["follow", "json", "ndjson", "bytes"],
)


async def ask(daemon: Daemon, process: dict[str, Any], path: str, accept: str, version: str = "1.1") -> socket.socket:
    """Ask for output, and wait until some of it is there. Little is kept for us."""
    loop = asyncio.get_running_loop()
    url = urlsplit(daemon.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    sock.setblocking(False)
    await loop.sock_connect(sock, (url.hostname, url.port))
    lines = (
        f"GET /api/v1/processes/{process['id']}/{path} HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {daemon.token}",
        f"Accept: {accept}",
        "\r\n",
    )
    await loop.sock_sendall(sock, "\r\n".join(lines).encode())

    def has_output() -> bool:
        try:
            return b"0123456789abcde" in sock.recv(RECEIVE_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return False

    await eventually(has_output)
    return sock


async def read_rest(sock: socket.socket) -> tuple[bytes, bool]:
    """Return the last bytes that come, and whether the connection ended in order."""
    loop = asyncio.get_running_loop()
    end = b""
    with sock:
        try:
            while data := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), DEADLINE_S):
                end = (end + data)[-100:]
        except ConnectionResetError:
            return end, False
    return end, True


@FORMS
async def test_a_purge_under_a_slow_reader_breaks_its_stream_off(daemon: Daemon, path: str, accept: str) -> None:
    process = await daemon.python(PRINT)
    await daemon.ended(process)
    sock = await ask(daemon, process, path, accept)
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    end, _ = await read_rest(sock)
    assert not end.endswith(LAST_CHUNK), end
    assert b"eof" not in end
    assert b"line_count" not in end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_the_daemons_end_breaks_a_stream_off(daemon: Daemon, number: int, version: str) -> None:
    process = await daemon.sh("echo 0123456789abcde; exec sleep 1000")
    sock = await ask(daemon, process, "output/follow", "text/event-stream", version)
    await daemon.stop(number)
    end, ended_in_order = await read_rest(sock)
    assert not end.endswith(LAST_CHUNK)
    assert b"eof" not in end
    assert version == "1.1" or not ended_in_order
    await daemon.start()


async def test_the_end_of_a_stream_tells_how_the_process_ended(daemon: Daemon) -> None:
    for script, expected in (
        ("exit 3", {"status": "exited", "reason": "exited", "exit_code": 3, "signal": None, "oom_killed": False}),
        (
            "kill -9 $$",
            {"status": "signaled", "reason": "signaled", "exit_code": None, "signal": 9, "oom_killed": False},
        ),
    ):
        (eof,) = await daemon.drained(await daemon.sh(script))
        assert (eof.kind, eof.data) == ("eof", expected)
    running = await daemon.run("sleep", "1000")
    (eof,) = [event async for event in daemon.follow(running, query="?until=1710000000000")]
    assert (eof.kind, eof.data["status"], eof.data["reason"]) == ("eof", "running", None)

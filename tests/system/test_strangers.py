"""A real daemon under clients that do not have its token."""

import asyncio
import contextlib
import gzip
from pathlib import Path

from harness.proc import pss_bytes
from tests.support.daemon import OUTLAST, Daemon
from tests.support.health import wait_until_healthy
from tests.support.waiting import DEADLINE_S, eventually

MEBIBYTE = 1 << 20


async def send(daemon: Daemon, data: bytes, times: int) -> None:
    """Send as much of the data as the daemon takes, and read its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.url.rpartition(":")[2]))
    try:
        with contextlib.suppress(ConnectionError):
            for _ in range(times):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()


async def test_nothing_that_is_sent_stays_in_memory(daemon: Daemon) -> None:
    """Garbage, endless headers, many requests at once and bodies, without the token; and garbage in a body with it."""
    bomb = gzip.compress(bytes(64 * MEBIBYTE))
    post = "POST /api/v1/processes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    token = f"Connection: close\r\nAuthorization: Bearer {daemon.token}\r\n"
    encoded = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    sent = [
        (b"\xff" * MEBIBYTE, 16),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, 16),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 40_000, 16),
        (f"{post}Content-Length: {1 << 40}\r\n\r\n".encode() + bytes(MEBIBYTE), 16),
        (f"{post}{encoded}\r\n".encode() + bomb, 1),
        (f"{post}{token}{encoded}\r\n".encode() + bomb, 1),
        (f"{post}{token}Transfer-Encoding: chunked\r\n\r\n".encode() + b"\xff" * MEBIBYTE, 16),
    ]
    await daemon.call("GET", "/health", 200)
    before = pss_bytes(daemon.pid)
    lines = len(daemon.log.splitlines())
    await asyncio.gather(*(send(daemon, data, times) for data, times in sent * 10))
    assert pss_bytes(daemon.pid) < 1.5 * before
    assert len(daemon.log.splitlines()) - lines <= 1


async def test_idle_clients_do_not_stop_a_daemon_with_few_descriptors(state_dir: Path) -> None:
    daemon = Daemon(state_dir)
    daemon.command = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", *OUTLAST]
    idle: list[asyncio.StreamWriter] = []
    try:
        await daemon.start()
        port = int(daemon.url.rpartition(":")[2])
        idle += [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(300)]
        await wait_until_healthy(daemon)

        async def can_start() -> bool:
            answer = await daemon.client.request("POST", "/processes", json={"command": "true"})
            assert answer.status in {201, 503}
            return answer.status == 201

        await eventually(can_start)  # the idle ones give way after a second
    finally:
        for writer in idle:
            writer.close()
        await daemon.end_everything()

"""Many followers: what they take of the daemon, whether they read or not. Counts and sizes, no times."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

FOLLOWERS = 100
LINES = 50_000  # of 1000 bytes
MIB = 1 << 20
SMALL_BUFFER_BYTES = 64 << 10
EACH_BYTES = 96 << 10
SLACK_BYTES = 24 * MIB  # what a second flood may take that a first did not
IDS = re.compile(rb"\nid: (\d+)\n")
LAST_CHUNK = b"\r\n0\r\n\r\n"

# Prints so many more lines of that length whenever it is told to.
_PRINT = """
import sys
count, digits, first = int(sys.argv[1]), int(sys.argv[2]) - 1, 0
while sys.stdin.readline():
    for number in range(first, first + count):
        sys.stdout.write(f"{number:0{digits}d}\\n")
    sys.stdout.flush()
    first += count
"""


def pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) << 10


@contextlib.asynccontextmanager
async def connected(
    daemon: Daemon, process: dict[str, Any], query: str = "", buffer_bytes: int = MIB
) -> AsyncIterator[socket.socket]:
    """Follow without reading. The system keeps about `buffer_bytes` for us."""
    loop = asyncio.get_running_loop()
    url = urlsplit(daemon.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        await loop.sock_connect(sock, (url.hostname, url.port))
        await loop.sock_sendall(
            sock,
            f"GET /api/v1/processes/{process['id']}/output/follow{query} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {daemon.token}\r\n\r\n".encode(),
        )
        yield sock


def is_full(sock: socket.socket) -> bool:
    """Tell whether the system keeps for us about as much as it was told to."""
    try:
        return len(sock.recv(SMALL_BUFFER_BYTES, socket.MSG_PEEK)) > SMALL_BUFFER_BYTES // 2
    except BlockingIOError:
        return False


async def read_ids(sock: socket.socket, end: bytes, at_least: int = 0) -> list[int]:
    """Read up to the first `end` behind `at_least` ids, and return the ids."""
    ids: list[int] = []
    rest = b""
    while len(ids) < at_least or not rest.endswith(end):
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, MIB), DEADLINE_S)
        assert data, rest
        rest += data
        found = list(IDS.finditer(rest))
        ids += [int(match[1]) for match in found]
        if found:
            rest = rest[found[-1].end() :]
    return ids


async def print_more(daemon: Daemon, process: dict[str, Any], lines: int) -> None:
    """Let it print, until it has printed `lines` in all and they are stored."""
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    async for _ in daemon.follow(process, query=f"?after={lines - 1}"):
        break


@pytest.mark.slow
async def test_those_that_do_not_read_a_flood_take_a_piece_each_and_miss_nothing(daemon: Daemon) -> None:
    process = await daemon.python(_PRINT, str(LINES), "1000", stdin_mode="pipe")
    async with contextlib.AsyncExitStack() as stack:
        reader = await stack.enter_async_context(connected(daemon, process))
        reading = asyncio.create_task(read_ids(reader, LAST_CHUNK))
        await print_more(daemon, process, LINES)
        before = pss_bytes(daemon.pid)
        stopped = []
        for _ in range(FOLLOWERS):
            follower = connected(daemon, process, buffer_bytes=SMALL_BUFFER_BYTES)
            stopped.append(await stack.enter_async_context(follower))
            await eventually(lambda: is_full(stopped[-1]))
        await print_more(daemon, process, 2 * LINES)
        assert pss_bytes(daemon.pid) - before < FOLLOWERS * EACH_BYTES + SLACK_BYTES
        await daemon.call("POST", f"/processes/{process['id']}/stdin/close", 204)
        assert await read_ids(stopped[0], LAST_CHUNK) == list(range(1, 2 * LINES + 1))
        assert await reading == list(range(1, 2 * LINES + 1))


async def test_those_that_wait_hold_nothing_of_what_they_have_read(crashable_daemon: Daemon) -> None:
    daemon = crashable_daemon
    await daemon.start()
    process = await daemon.python(_PRINT, "2", str(MIB), stdin_mode="pipe")
    await print_more(daemon, process, 2)
    await daemon.kill()
    await daemon.start()  # nothing is in memory any more: each follower reads the store
    async with contextlib.AsyncExitStack() as stack:
        before = 0
        for _ in range(FOLLOWERS // 2):
            sock = await stack.enter_async_context(connected(daemon, process, "?tail=1"))
            assert await read_ids(sock, b"\n\n\r\n", 1) == [2]
            before = before or pss_bytes(daemon.pid)
        assert pss_bytes(daemon.pid) - before < FOLLOWERS // 2 * EACH_BYTES + SLACK_BYTES

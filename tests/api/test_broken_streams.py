"""Answers that are broken off do not look whole: no last chunk, no whole length, no orderly end of the connection."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from outlast.core.query.follow import FollowInterrupted
from outlast.model.errors import NotFound, StorageUnavailable
from outlast.model.output import Stream

from .chunks import numbered
from .server import TOKEN, Server, until
from .stub import StubManager

PROCESS = "/api/v1/processes/42"
LAST_CHUNK = b"0\r\n\r\n"
MUCH = numbered([(b"0123456789\n" * 30_000, Stream.STDOUT)] * 3)
DEADLINE_S = 10.0

FORMS = [
    pytest.param(f"{PROCESS}/output/follow", "text/event-stream", id="follow"),
    pytest.param(f"{PROCESS}/output", "application/json", id="json"),
    pytest.param(f"{PROCESS}/output", "application/x-ndjson", id="ndjson"),
    pytest.param(f"{PROCESS}/stdout", "application/octet-stream", id="bytes"),
    pytest.param(f"{PROCESS}/output", "application/octet-stream", id="bytes-with-length"),
    pytest.param("/api/v1/processes/run", "", id="run"),
]
VERSIONS = pytest.mark.parametrize("version", ["1.1", "1.0"])


def request(path: str, accept: str, version: str) -> bytes:
    body = b'{"command":"true"}' if path.endswith("/run") else b""
    method = "POST" if body else "GET"
    lines = (
        f"{method} {path} HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {TOKEN}",
        f"Accept: {accept}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body


@contextlib.asynccontextmanager
async def asking(server: Server, path: str, accept: str, version: str) -> AsyncIterator[socket.socket]:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, request(path, accept, version))
        yield sock


async def read_to_the_end(sock: socket.socket) -> tuple[bytes, bool]:
    """Return what came, and whether the connection ended in order."""
    data = b""
    try:
        while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 20), DEADLINE_S):
            data += piece
    except ConnectionResetError:
        return data, False
    return data, True


def has_begun(sock: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return b"0123456789" in sock.recv(4096, socket.MSG_PEEK)
    return False


def looks_whole(answer: bytes, ended_in_order: bool) -> bool:
    """Tell what a client that knows HTTP takes the answer for."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")), answer[:200]
    head = head.lower()
    if b"\r\ntransfer-encoding: chunked" in head:
        return body.endswith(LAST_CHUNK)
    if b"\r\ncontent-length: " in head:
        return len(body) >= int(head.partition(b"\r\ncontent-length: ")[2].split()[0])
    return ended_in_order


@VERSIONS
@pytest.mark.parametrize(("path", "accept"), FORMS)
async def test_a_whole_answer_looks_whole(
    server: Server, manager: StubManager, path: str, accept: str, version: str
) -> None:
    manager.chunks, manager.stored_bytes, manager.is_ended = MUCH, sum(len(it.data) for it in MUCH), True
    async with asking(server, path, accept, version) as sock:
        assert looks_whole(*await read_to_the_end(sock))


@VERSIONS
@pytest.mark.parametrize(("path", "accept"), FORMS)
@pytest.mark.parametrize(
    "error",
    [FollowInterrupted(), NotFound("purged"), StorageUnavailable("the disk is full"), RuntimeError("a defect")],
    ids=lambda error: type(error).__name__,
)
async def test_an_answer_that_fails_half_way_does_not(
    server: Server,
    manager: StubManager,
    caplog: pytest.LogCaptureFixture,
    path: str,
    accept: str,
    version: str,
    error: Exception,
) -> None:
    manager.chunks, manager.stored_bytes, manager.fail_after_chunks = MUCH, 10_000_000, error
    async with asking(server, path, accept, version) as sock:
        answer, ended_in_order = await read_to_the_end(sock)
    assert b"0123456789" in answer
    assert not looks_whole(answer, ended_in_order)
    in_the_course_of_things = isinstance(error, FollowInterrupted | NotFound)
    assert [record.levelno for record in caplog.records] == [] if in_the_course_of_things else [logging.ERROR]


@VERSIONS
@pytest.mark.parametrize(("path", "accept"), FORMS)
async def test_an_answer_whose_client_does_not_read_until_the_daemon_ends_does_not(
    server: Server, manager: StubManager, path: str, accept: str, version: str
) -> None:
    manager.chunks = numbered([(b"0123456789\n" * 90_000, Stream.STDOUT)] * 20)
    manager.stored_bytes = sum(len(it.data) for it in manager.chunks)
    async with asking(server, path, accept, version) as sock:
        await until(lambda: has_begun(sock))
        await server.http.close()
        assert not looks_whole(*await read_to_the_end(sock))


@VERSIONS
async def test_a_quiet_stream_is_broken_off_at_the_daemons_end(
    server: Server, manager: StubManager, version: str
) -> None:
    manager.follow_forever = True
    async with asking(server, f"{PROCESS}/output/follow", "", version) as sock:
        await until(lambda: manager.followers == 1)
        await server.http.close()
        answer, ended_in_order = await read_to_the_end(sock)
    assert not looks_whole(answer, ended_in_order)
    assert b"eof" not in answer

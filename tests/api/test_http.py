"""HTTP as clients and proxies use it: HEAD, HTTP/1.0, charsets, compressed bodies, foreign names."""

import asyncio
import gzip
import socket
from collections.abc import Callable

import pytest

from outlast.api.routes import ROUTES
from outlast.model.output import Stream

from .chunks import numbered
from .paths import path_of
from .server import BEARER, TOKEN, Server, until
from .stub import StubManager
from .test_auth import basic

GETS = [path_of(route) for route in ROUTES if route.method == "GET"]
STREAMS = [path for path in GETS if path.endswith(("/follow", "/events"))]


@pytest.mark.parametrize(
    "hang_up", [socket.socket.close, lambda sock: sock.shutdown(socket.SHUT_WR)], ids=["close", "half"]
)
@pytest.mark.parametrize("call", ["", "/run", "/42/signal"])
async def test_a_client_that_hangs_up_before_its_call_is_made_has_asked_for_nothing(
    server: Server, manager: StubManager, call: str, hang_up: Callable[[socket.socket], None]
) -> None:
    """The server has read the request, and its event loop does not know that nothing more comes."""
    body = b'{"signal": 15}' if call.endswith("signal") else b'{"command": "true"}'
    head = f"POST /api/v1/processes{call} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        manager.on_caught_up = lambda: hang_up(client)
        client.sendall(f"{head}Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode() + body)
        await until(lambda: manager.caught_up == 1)
        await until(lambda: server.connections == 0)
    assert manager.calls == []


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_like_get_without_a_body(server: Server, manager: StubManager, path: str) -> None:
    manager.chunks = numbered([(b"one\ntwo\n", Stream.STDOUT)])
    head = await server.ask("HEAD", path)
    assert head.body == b""
    assert head.status != 405
    if path not in STREAMS:
        got = await server.ask("GET", path)
        assert head.status == got.status
        if path != "/metrics":  # each scrape tells of the one before
            assert head.headers["Content-Length"] == str(len(got.body))
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/api/v1/health", "/docs", "/api/v1/processes/42/output/follow", "/no/such/path"])
async def test_a_client_of_http_1_0_learns_where_the_body_ends(server: Server, manager: StubManager, path: str) -> None:
    """The client asks to keep the connection, as `ab -k` does; without a length, only the end of it says where."""
    manager.chunks = numbered([(b"one\n", Stream.STDOUT)])
    request = f"GET {path} HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    reader, writer = await server.connect(request)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).lower()
    assert b"chunked" not in head
    if b"content-length: " in head:
        assert b"connection: keep-alive" in head
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(request)
        assert await asyncio.wait_for(reader.readexactly(9), 10) == b"HTTP/1.0 "
    else:
        assert b"\nevent: eof\n" in await asyncio.wait_for(reader.read(), 10)


async def test_text_names_its_charset_and_is_not_to_be_transformed(server: Server, manager: StubManager) -> None:
    manager.chunks = numbered([(b"\xc3\xa4\n", Stream.STDOUT)])
    output = "/api/v1/processes/42/output"
    for path, accept in ((output, "application/x-ndjson"), (f"{output}/follow", "*/*")):
        answer = await server.ask("GET", path, headers={**BEARER, "Accept": accept})
        assert answer.headers["Content-Type"].endswith("; charset=utf-8")
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
    for name in ("docs", "docs/docs.js", "docs/swagger-ui.css"):
        assert (await server.ask("GET", f"/{name}")).headers["Content-Type"].endswith("; charset=utf-8")


@pytest.mark.parametrize("path", ["/api/v1/processes", "/api/v1/processes/42/stdin"])
async def test_a_compressed_body_is_refused(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    for body in (gzip.compress(b'{"command": "true"}'), b"not gzip"):
        headers = {**BEARER, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await server.ask("POST", path, headers=headers, data=body)
        assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
    assert manager.calls == []
    assert caplog.records == []


async def test_a_malformed_body_is_the_clients_fault(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await server.connect(
        f"POST /api/v1/processes/42/stdin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n".encode()
    )
    await until(lambda: manager.stdin)
    writer.write(b"not a size\r\n")
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400 ")
    assert caplog.records == []


async def test_a_page_behind_a_proxy_comes_by_a_name_that_the_operator_allows(server: Server) -> None:
    """A proxy may pass the name on, or send its own; browsers tell the origin either way."""
    page = {"Authorization": basic(TOKEN), "Origin": "https://outlast.example", "Sec-Fetch-Site": "same-origin"}
    for host in ("outlast.example", "127.0.0.1:9501"):
        assert (await server.ask("GET", "/api/v1/health", headers={**page, "Host": host})).status == 200
    for origin in ("https://evil.example", "https://outlast.example.evil", "null", "outlast.example"):
        assert (await server.ask("GET", "/api/v1/health", headers={**page, "Origin": origin})).status == 403

import base64

import pytest

from outlast.api.auth import Guard
from outlast.api.routes import ROUTES

from .paths import path_of
from .server import BEARER, TOKEN, Server
from .stub import StubManager

EVERY_PATH = [
    *((route.method, path_of(route)) for route in ROUTES),
    *((method, "/api/v1/health") for method in ("POST", "HEAD", "OPTIONS", "TRACE", "PUT")),
    ("GET", "/no/such/path"),
    ("GET", "/docs/no-such-file"),
    ("OPTIONS", "/api/v1/processes"),
    ("OPTIONS", "/no/such/path"),
]


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WITHOUT_TOKEN = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": TOKEN},
    {"Authorization": f"Token {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": "Bearer ÿþ"},
    {"Authorization": basic("")},
    {"Authorization": basic(TOKEN + "x")},
    {"Authorization": basic("x", user=TOKEN)},
    {"Authorization": "Basic"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
    {"Cookie": f"token={TOKEN}"},
]


@pytest.mark.parametrize(("method", "path"), EVERY_PATH)
async def test_every_path_requires_the_token(server: Server, manager: StubManager, method: str, path: str) -> None:
    for headers in WITHOUT_TOKEN:
        answer = await server.ask(method, path, headers=headers)
        assert answer.status == 401, headers
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        if method != "HEAD":
            assert answer.json["code"] == "UNAUTHORIZED"
            assert TOKEN.encode() not in answer.body
    assert (await server.ask(method, f"{path}?token={TOKEN}", headers={})).status == 401
    assert manager.calls == []


async def test_two_authorizations_are_refused(server: Server) -> None:
    reader, _ = await server.connect(
        b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("method", "path"), EVERY_PATH)
async def test_no_cors_header_is_ever_sent(server: Server, method: str, path: str) -> None:
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for headers in (asking, {**asking, **BEARER}, {**asking, "Authorization": basic(TOKEN)}):
        answer = await server.ask(method, path, headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert (await server.ask("OPTIONS", "/api/v1/processes", headers={**asking, **BEARER})).status == 405


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("host", ["01hx.local", "evil.example", "127.0.0.1"])
async def test_a_bearer_token_is_accepted_from_anywhere(server: Server, scheme: str, host: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}", "Host": host, "Origin": "https://other.example"}
    assert (await server.ask("GET", "/api/v1/health", headers=headers)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9501",
        "127.0.0.1:9501",
        "[::1]:9501",
        "192.168.7.8",
        "app.localhost",
        "outlast.example:80",
    ],
)
async def test_a_browser_may_use_the_daemons_own_hosts(server: Server, host: str) -> None:
    for origin in ({}, {"Origin": f"http://{host}"}, {"Origin": f"https://{host.lower()}"}):
        for site in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
            headers = {"Authorization": basic(TOKEN), "Host": host, **origin, **site}
            assert (await server.ask("GET", "/api/v1/health", headers=headers)).status == 200, headers


@pytest.mark.parametrize(
    "foreign",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "evillocalhost"},
        {"Host": "[::1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "file://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_browser_sent_by_a_foreign_page_gets_nothing(
    server: Server, manager: StubManager, foreign: dict[str, str]
) -> None:
    headers = {"Authorization": basic(TOKEN), "Host": "localhost", **foreign}
    for method, path in (("GET", "/docs"), ("POST", "/api/v1/processes"), ("DELETE", "/api/v1/processes/42")):
        answer = await server.ask(method, path, headers=headers)
        assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")
        assert ("the setting allowed_hosts" in answer.json["error"]) is ("Sec-Fetch-Site" not in foreign)
    assert manager.calls == []


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="token"):
        Guard("")


async def test_a_body_is_read_only_with_the_token(server: Server) -> None:
    request = "POST /api/v1/processes/42/stdin HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
    reader, writer = await server.connect(f"{request}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(b"hello")
    assert (await reader.readuntil(b" 204 ")).startswith(b"\r\nHTTP/1.1")

    reader, writer = await server.connect(f"{request}\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")


async def test_an_absent_host_is_foreign_to_a_browser(server: Server) -> None:
    reader, _ = await server.connect(f"GET /api/v1/health HTTP/1.0\r\nAuthorization: {basic(TOKEN)}\r\n\r\n".encode())
    assert b" 403 " in await reader.readline()


async def test_the_client_of_these_tests_is_let_in(server: Server) -> None:
    answer = await server.ask("GET", "/api/v1/health")
    assert (answer.status, answer.json) == (200, {"healthy": True})

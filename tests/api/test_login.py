"""Browsers log in with the token or a code, and are known by a cookie from then on."""

import asyncio
import html
import time
from urllib.parse import urlencode

import pytest

from harness.http_client import Answer
from outlast.api import logins
from outlast.api.auth import Guard
from outlast.api.login_page import MAX_FORM_BYTES, local
from outlast.api.logins import Logins

from .server import BEARER, TOKEN, Server
from .stub import StubManager

HEALTH = "/api/v1/health"
PAGE = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", **PAGE}


def cookie_of(answer: Answer) -> str:
    """Return the cookie that an answer sets, as a browser sends it."""
    return answer.headers["Set-Cookie"].partition(";")[0]


async def log_in(server: Server, token: str = TOKEN, destination: str = "/docs?x=1") -> Answer:
    body = urlencode({"token": token, "next": destination}).encode()
    return await server.ask("POST", "/login", headers=FORM, data=body, allow_redirects=False)


async def code(server: Server) -> str:
    made = await server.ask("POST", "/api/v1/login-codes")
    assert made.status == 201
    assert 0 < made.json["expires_at"] / 1000 - time.time() <= logins.CODE_S + 1
    path: str = made.json["path"]
    assert path == f"/login?code={made.json['code']}"
    return path


@pytest.mark.parametrize("path", ["/", "/docs", "/no/such/path", HEALTH, "/login"])
async def test_a_browser_without_a_login_gets_a_form(server: Server, manager: StubManager, path: str) -> None:
    answer = await server.ask("GET", f'{path}?q="><script>', headers=PAGE)
    assert (answer.status, answer.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Outlast"'  # `Basic` would open a dialog instead
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy + answer.body.decode().replace("%3Cscript", "")
    destination = "/" if path == "/login" else f"{path}?q=%22%3E%3Cscript%3E"
    assert f'value="{html.escape(destination)}"'.encode() in answer.body
    assert manager.calls == []


async def test_a_script_of_a_page_without_a_login_gets_json_and_no_dialog(server: Server) -> None:
    answer = await server.ask("GET", HEALTH, headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors"})
    assert (answer.status, answer.json["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Outlast"'


async def test_the_token_logs_a_browser_in(server: Server) -> None:
    answer = await log_in(server, f" {TOKEN}\n")
    assert (answer.status, answer.headers["Location"]) == (303, "/docs?x=1")
    assert answer.headers["Set-Cookie"].partition("; ")[2] == f"Path=/; Max-Age={30 * 86400}; HttpOnly; SameSite=Strict"
    assert TOKEN not in answer.headers["Set-Cookie"]
    known = {"Cookie": f"other=1; {cookie_of(answer)}; more=2"}
    assert (await server.ask("GET", HEALTH, headers=known)).status == 200
    again = await server.ask("GET", "/login?next=/docs", headers={**PAGE, **known}, allow_redirects=False)
    assert (again.status, again.headers["Location"]) == (303, "/docs")


async def test_a_form_may_come_byte_by_byte(server: Server) -> None:
    body = urlencode({"token": TOKEN}).encode()
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    reader, writer = await server.connect(b"")
    for number in head.encode() + body:
        writer.write(bytes([number]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.read()).startswith(b"HTTP/1.1 303 ")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "\xff"])
@pytest.mark.parametrize("headers", [{}, BEARER], ids=["first request", "later request"])
async def test_a_wrong_token_logs_nobody_in(server: Server, token: str, headers: dict[str, str]) -> None:
    body = urlencode({"token": token, "next": "/docs"}).encode()
    if headers:
        await server.ask("GET", HEALTH)  # a connection that has shown the token
    answer = await server.ask("POST", "/login", headers=FORM, data=body)
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers
    assert b"This is not the token of this daemon." in answer.body
    assert b'value="/docs"' in answer.body


@pytest.mark.parametrize(
    "request_",
    [
        ("POST", "/login", urlencode({"token": TOKEN, "x": "x" * MAX_FORM_BYTES}).encode()),
        ("POST", "/login/", urlencode({"token": TOKEN}).encode()),
        ("POST", "/docs", urlencode({"token": TOKEN}).encode()),
        ("GET", f"/login?token={TOKEN}", None),
        ("POST", "/login", urlencode([("token", TOKEN), *[("x", "1")] * 20]).encode()),
    ],
)
async def test_the_token_counts_in_a_form_of_the_login_only(
    server: Server, request_: tuple[str, str, bytes | None]
) -> None:
    method, path, body = request_
    answer = await server.ask(method, path, headers=FORM, data=body, allow_redirects=False)
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:1"},  # another port is the same site, and gets the cookie
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_login_counts_on_own_pages_only(server: Server, manager: StubManager, headers: dict[str, str]) -> None:
    cookie = cookie_of(await log_in(server))
    own = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    assert (await server.ask("GET", "/api/v1/processes", headers=own)).status == 200
    calls = list(manager.calls)
    for method, path in (("GET", "/api/v1/processes"), ("DELETE", "/api/v1/processes/web"), ("POST", "/logout")):
        answer = await server.ask(method, path, headers={"Cookie": cookie, **headers})
        assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN")
    body = urlencode({"token": TOKEN}).encode()
    assert (await server.ask("POST", "/login", headers={**FORM, **headers}, data=body)).status == 403
    assert manager.calls == calls


def spoilt(name: str, value: str) -> list[str]:
    ends_at, _, signature = value.partition(".")
    return [
        f"{name}=",
        f"{name}={TOKEN}",
        f"{name}={ends_at}",
        f"{name}={ends_at}.",
        f"{name}={int(ends_at) + 1}.{signature}",
        f"{name}=-{ends_at}.{signature}",
        f"{name}={ends_at}.{signature[:-1]}",
        f"x{name}={value}",
        Logins("another token").new_cookie().partition(";")[0],
    ]


async def test_no_other_cookie_counts(server: Server) -> None:
    name, _, value = cookie_of(await log_in(server)).partition("=")
    for cookie in spoilt(name, value):
        assert (await server.ask("GET", HEALTH, headers={"Cookie": cookie})).status == 401, cookie
    wrong = {"Cookie": f"{name}={value}", "Authorization": "Bearer wrong"}
    assert (await server.ask("GET", HEALTH, headers=wrong)).status == 401


def test_a_login_is_valid_for_a_time_at_every_daemon_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = Guard(TOKEN).logins.new_cookie().partition(";")[0].encode()
    assert Guard(TOKEN).logins.is_logged_in(cookie)
    assert not Guard(TOKEN + "x").logins.is_logged_in(cookie)
    late = time.time() + logins.LOGIN_S + 1
    monkeypatch.setattr(time, "time", lambda: late)
    assert not Guard(TOKEN).logins.is_logged_in(cookie)


async def test_a_code_is_worth_one_login(server: Server) -> None:
    path = await code(server)
    answer = await server.ask("GET", f"{path}&next=/docs", headers=PAGE, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/docs")
    assert (await server.ask("GET", HEALTH, headers={"Cookie": cookie_of(answer)})).status == 200
    again = await server.ask("GET", path, headers=PAGE)
    assert again.status == 401
    assert b"This link was used already" in again.body


async def test_a_code_expires(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "CODE_S", -1)
    made = await server.ask("POST", "/api/v1/login-codes")
    assert (await server.ask("GET", made.json["path"], headers=PAGE)).status == 401


async def test_a_logout_takes_the_cookie_away(server: Server) -> None:
    cookie = cookie_of(await log_in(server))
    answer = await server.ask("POST", "/logout", headers={"Cookie": cookie}, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    name = cookie.partition("=")[0]
    assert answer.headers["Set-Cookie"].startswith(f"{name}=; Path=/; Max-Age=0;")


@pytest.mark.parametrize(
    "destination",
    ["", "https://evil.example/", "//evil.example", "/\\evil.example", "x", "/a b", "/\r\nX: y", "/login"],
)
async def test_a_login_leads_to_no_other_server(server: Server, destination: str) -> None:
    answer = await log_in(server, destination=destination)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert local("/?process=@12&seq=3") == "/?process=@12&seq=3"

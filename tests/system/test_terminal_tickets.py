"""Tickets: a page attaches to one terminal, once, and no other page does."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.daemon import Daemon
from tests.support.terminal import create

APP = "https://app.example"


async def make(daemon: Daemon, session: dict[str, Any], **body: str) -> str:
    """Return the URL that a page opens."""
    ticket = await daemon.call("POST", f"/pty/{session['session_id']}/tickets", 201, body)
    assert ticket["path"].endswith(f"?ticket={ticket['ticket']}")
    return f"{daemon.url}{ticket['path']}"


async def opened(url: str, **headers: str) -> int:
    """Open a websocket without the token, and return its status. One that is opened is used."""
    async with aiohttp.ClientSession() as page:
        try:
            async with page.ws_connect(url, headers=headers) as socket:
                await socket.send_bytes(b"\2")
                await socket.send_bytes(b"\0hello\n")
                async with asyncio.timeout(20):
                    while b"hello" not in (await socket.receive_bytes()):
                        pass
                return 101
        except aiohttp.WSServerHandshakeError as refused:
            return refused.status


async def test_a_page_attaches_once(daemon: Daemon) -> None:
    url = await make(daemon, await create(daemon, "cat"))
    assert await opened(url, Origin=daemon.url) == 101
    assert await opened(url, Origin=daemon.url) == 401


async def test_a_page_of_another_site_needs_a_ticket_of_its_own(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    assert await opened(await make(daemon, session, origin=APP), Origin=APP) == 101
    for page in ("https://evil.example", "http://app.example", f"{APP}:8443", "null", daemon.url):
        assert await opened(await make(daemon, session, origin=APP), Origin=page) == 403
    for page in (APP, "null"):
        assert await opened(await make(daemon, session), Origin=page) == 403


async def test_what_is_no_page_gets_nothing_for_a_ticket(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    assert await opened(await make(daemon, session)) == 403
    assert await opened(await make(daemon, session, origin=APP)) == 403


async def test_a_name_that_another_site_gave_this_server_opens_nothing(daemon: Daemon) -> None:
    url = await make(daemon, await create(daemon, "cat"))
    assert await opened(url, Host="evil.example", Origin="http://evil.example") == 403


async def test_a_ticket_is_for_one_terminal_and_nothing_else(daemon: Daemon) -> None:
    one, other = await create(daemon, "cat"), await create(daemon, "cat")
    for path in (f"/pty/{other['session_id']}/ws", f"/pty/{one['session_id']}", "/pty", "/processes", "/info"):
        query = (await make(daemon, one)).partition("?")[2]
        async with (
            aiohttp.ClientSession(headers={"Origin": daemon.url}) as page,
            page.get(f"{daemon.url}/api/v1{path}?{query}") as answer,
        ):
            assert answer.status == 401, path


async def test_a_refused_page_has_used_its_ticket(daemon: Daemon) -> None:
    url = await make(daemon, await create(daemon, "cat"))
    assert await opened(url, Origin="https://evil.example") == 403
    assert await opened(url, Origin=daemon.url) == 401


async def test_a_ticket_counts_beside_a_login(daemon: Daemon) -> None:
    url = await make(daemon, await create(daemon, "cat"))
    code = (await daemon.call("POST", "/login-codes", 201))["path"]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as page:
        async with page.get(f"{daemon.url}{code}", allow_redirects=False) as answer:
            assert answer.status == 303
        async with page.ws_connect(url, headers={"Origin": daemon.url}):
            pass
    assert await opened(url, Origin=daemon.url) == 401


@pytest.mark.parametrize("origin", ["app.example", "https://", "https://app.example/path", "a b://c", "null", ""])
async def test_an_origin_is_scheme_and_host(daemon: Daemon, origin: str) -> None:
    session = await create(daemon, "cat")
    answer = await daemon.call("POST", f"/pty/{session['session_id']}/tickets", 400, {"origin": origin})
    assert "origin" in answer["error"]


async def test_nobody_makes_a_ticket_for_what_is_not_there(daemon: Daemon) -> None:
    await daemon.call("POST", "/pty/no-such/tickets", 404, {})

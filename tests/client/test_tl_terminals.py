"""Requests of the official command line `tl` for terminals (`sbx ssh`, `pty ls`, `pty attach`, `pty rm`), sent again.

The command itself looks for its sandbox first, by calls that are not about terminals. What it sends then was read in
its source (0.5.113): a host of its own, both forms of the token, no `Origin`, and a close without a code.
"""

import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

READY, DATA, RESIZE, EXIT = 2, 0, 1, 3


class Tl:
    """The requests of the command line, with the headers that it gives to each."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self._url = daemon.url
        self._session = session
        self.headers = {
            "Authorization": f"Bearer {daemon.token}",
            "X-Forwarded-Organization-Id": "org",
            "X-Forwarded-Project-Id": "project",
            "Host": "local.local",
        }

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request, and return status and JSON."""
        async with self._session.request(method, f"{self._url}{path}", json=body, headers=self.headers) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else None

    async def ssh(self, *shell_args: str) -> dict[str, Any]:
        """Create a session, as `sbx ssh` does."""
        env = {"TERM": "screen-256color", "COLORTERM": "truecolor"}
        body = {"command": "/bin/sh", "rows": 40, "cols": 120, "env": env}
        body |= {"args": list(shell_args)} if shell_args else {}
        status, session = await self.call("POST", "/api/v1/pty", body)
        assert 200 <= status < 300
        assert isinstance(session, dict)
        return session

    @contextlib.asynccontextmanager
    async def attached(self, session_id: str, token: str) -> AsyncIterator["Shown"]:
        """Attach, as `sbx ssh` and `pty attach` do."""
        url = f"{self._url}/api/v1/pty/{session_id}/ws?token={token}"
        headers = {**self.headers, "X-PTY-Token": token}
        async with self._session.ws_connect(url, headers=headers, autoclose=False) as socket:
            await socket.send_bytes(bytes([READY]))
            yield Shown(socket)


class Shown:
    """A websocket as the command line reads it: data until an exit frame or a close."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.data = b""

    async def type(self, text: str) -> None:
        await self.socket.send_bytes(bytes([DATA]) + text.encode())

    async def read(self, what: bytes | None = None) -> int | None:
        """Read until `what` is shown (None), or to the end: return the exit code."""
        while what is None or what not in self.data:
            message = await self.socket.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.BINARY and message.data[0] == EXIT:
                return int(struct.unpack(">i", message.data[1:5])[0])
            assert message.type is aiohttp.WSMsgType.BINARY, message
            assert message.data[0] == DATA
            self.data += message.data[1:]
        return None

    async def leave(self) -> None:
        """Close without a code, and wait until the server has closed, too."""
        await self.socket._writer.send_frame(b"", aiohttp.WSMsgType.CLOSE)
        while (await self.socket.receive(timeout=20)).type is aiohttp.WSMsgType.BINARY:
            pass


@pytest.fixture
async def tl(daemon: Daemon) -> AsyncIterator[Tl]:
    async with aiohttp.ClientSession() as session:
        yield Tl(daemon, session)


async def test_ssh_shows_a_shell_and_exits_as_it_does(tl: Tl) -> None:
    session = await tl.ssh()
    async with tl.attached(session["session_id"], session["token"]) as shown:
        await shown.type("stty size; echo $TERM-$COLORTERM; exit 23\n")
        assert await shown.read() == 23
        assert b"40 120\r\nscreen-256color-truecolor\r\n" in shown.data
        end = await shown.socket.receive(timeout=20)
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 1000, "exit:23")


async def test_a_window_that_changes_is_told(tl: Tl) -> None:
    session = await tl.ssh("-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done")
    async with tl.attached(session["session_id"], session["token"]) as shown:
        await shown.read(b"ready")
        await shown.socket.send_bytes(struct.pack(">BHH", RESIZE, 100, 30))
        await shown.read(b"30 100\r\n")


async def test_who_leaves_by_a_close_without_a_code_returns_by_pty_attach(tl: Tl) -> None:
    session = await tl.ssh("-c", "stty -echo; echo ready; read x; exit 4")
    async with tl.attached(session["session_id"], session["token"]) as shown:
        await shown.read(b"ready")
        await shown.leave()
    async with tl.attached(session["session_id"], session["token"]) as shown:
        await shown.read(b"ready")
        await shown.type("\n")
        assert await shown.read() == 4


async def test_pty_ls_lists_what_can_be_attached_to(tl: Tl) -> None:
    assert await tl.call("GET", "/api/v1/pty") == (200, {"sessions": []})
    session = await tl.ssh("-c", "read x")
    status, listed = await tl.call("GET", "/api/v1/pty")
    (shown,) = listed["sessions"]
    assert status == 200
    assert (shown["session_id"], shown["command"], shown["args"]) == (
        session["session_id"],
        "/bin/sh",
        ["-c", "read x"],
    )
    assert shown["created_at"]
    assert "token" not in shown


async def test_pty_rm_ends_a_session(tl: Tl) -> None:
    session = await tl.ssh("-c", "read x")
    path = f"/api/v1/pty/{session['session_id']}"
    assert (await tl.call("DELETE", path))[0] == 204

    async def is_gone() -> bool:
        return (await tl.call("GET", path))[0] == 404

    await eventually(is_gone)
    assert (await tl.call("DELETE", path))[0] == 404

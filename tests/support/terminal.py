"""A client of a terminal that shows what it is sent, as a terminal emulator does."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pyte

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

ROWS, COLS = 24, 80


class _Screen(pyte.Screen):
    """A screen that passes over what xterm means by SGR with a mark, which pyte does not know."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class TerminalClient:
    """One client. `output` is all that it was sent, `exit_code` what the end was said to be."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.output = bytearray()
        self.position: int | None = None
        self.exit_code: int | None = None
        self._shown_bytes = 0
        self._screen = _Screen(COLS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._reading: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Ask for output, and take it from now on."""
        self._reading = asyncio.create_task(self._read())
        await self.socket.send_bytes(b"\2")

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            kind, rest = message.data[0], message.data[1:]
            if kind == 0:
                self.output += rest
            elif kind == 3:
                (self.exit_code,) = struct.unpack(">i", rest)
            elif kind == 4:
                (self.position,) = struct.unpack(">Q", rest)

    async def type(self, text: str | bytes) -> None:
        """Type a text."""
        await self.socket.send_bytes(b"\0" + (text.encode() if isinstance(text, str) else text))

    async def resize(self, cols: int, rows: int) -> None:
        """Say that the screen has another size."""
        await self.socket.send_bytes(struct.pack(">BHH", 1, cols, rows))

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without spaces at their ends."""
        self._show()
        return [line.rstrip() for line in self._screen.display]

    def _show(self) -> None:
        """Give the emulator what has come since. It is slow, and many tests look at no screen."""
        fresh = bytes(memoryview(self.output)[self._shown_bytes :])
        self._shown_bytes += len(fresh)
        self._stream.feed(fresh)

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column of the cursor."""
        self._show()
        return self._screen.cursor.y, self._screen.cursor.x

    async def shows(self, what: str | Callable[[list[str]], object]) -> list[str]:
        """Wait until the screen shows a text, or meets a condition, and return it."""
        look = (lambda: any(what in line for line in self.lines)) if isinstance(what, str) else lambda: what(self.lines)
        try:
            await eventually(look)
        except AssertionError:
            raise AssertionError("\n".join(["the screen shows:", *self.lines])) from None
        return self.lines

    async def ended(self) -> tuple[int | None, int | None]:
        """Wait until the server has closed the connection, and return exit code and close code."""
        assert self._reading is not None
        await asyncio.wait_for(asyncio.shield(self._reading), 20)
        return self.exit_code, self.socket.close_code

    async def close(self) -> None:
        """Leave."""
        await self.socket.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


async def create(daemon: Daemon, command: str, *args: str, **fields: Any) -> dict[str, Any]:
    """Start a program in a terminal, and return the answer."""
    body = {"command": command, "args": list(args), "rows": ROWS, "cols": COLS, **fields}
    session: dict[str, Any] = await daemon.call("POST", "/pty", 201, body)
    return session


@contextlib.asynccontextmanager
async def attach(
    daemon: Daemon, session: dict[str, Any], *, query: str = "", is_ready: bool = True, **options: Any
) -> AsyncIterator[TerminalClient]:
    """Attach to a terminal."""
    url = f"{daemon.url}/api/v1/pty/{session['session_id']}/ws{query}"
    headers = {"X-PTY-Token": session["token"]} if "token" in session else {}
    async with daemon.session.ws_connect(url, headers=headers, **options) as socket:
        client = TerminalClient(socket)
        if is_ready:
            await client.ready()
        try:
            yield client
        finally:
            await client.close()

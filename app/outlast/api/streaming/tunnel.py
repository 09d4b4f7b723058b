"""A tunnel: the bytes of a TCP connection in binary messages of a websocket, both ways."""

import asyncio
import contextlib
import time

from aiohttp import WSCloseCode, WSMsgType, web

from outlast.api.streaming.websockets import Close, closing, first_done

MAX_MESSAGE_BYTES = 4 << 20
"""Maximum size of a message from a client."""
PING_S = 30.0
"""Time between two pings."""
SILENCE_S = 45.0
"""Time after which a client is given up that answers no ping."""
PIECE_BYTES = 64 << 10
"""Size of what is carried in one go."""


_ENDED = Close(WSCloseCode.OK, "the program has closed the connection")
_BROKEN = Close(WSCloseCode.GOING_AWAY, "the program has closed the connection")
_NO_TEXT = Close(WSCloseCode.UNSUPPORTED_DATA, "send bytes in binary messages")


class Tunnel:
    """A tunnel of one client."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stopping: asyncio.Event,
    ) -> None:
        """Make a tunnel.

        Args:
            socket: the client's websocket, prepared.
            reader: what the program sends.
            writer: what the program gets.
            stopping: set when the daemon stops.
        """
        self._socket = socket
        self._reader = reader
        self._writer = writer
        self._stopping = stopping
        self._alive_at = time.monotonic()
        self._waits_for_program = False

    async def carry(self) -> None:
        """Carry bytes until one of both connections ends, and end the other; or until the daemon stops.

        What the program has not taken is dropped if the client is gone without a word.
        """
        try:
            done = await first_done(self._pass_on(), self._send_answers(), self._ping(), closing(self._stopping))
        except asyncio.CancelledError:  # the client is gone
            self._writer.transport.abort()
            raise
        close = done.result()
        if close is not None:
            await self._socket.close(code=close.code, message=close.reason.encode())

    async def _pass_on(self) -> Close | None:
        while True:
            message = await self._socket.receive()
            self._alive_at = time.monotonic()
            if message.type is WSMsgType.BINARY:
                self._writer.write(message.data)
                try:
                    await self._drain()
                except ConnectionError:
                    return _BROKEN
            elif message.type is WSMsgType.TEXT:
                return _NO_TEXT
            elif message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):
                    await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return None

    async def _drain(self) -> None:
        """Wait for the program. What the client sends is not read meanwhile, not even its answers to pings."""
        self._waits_for_program = True
        try:
            await self._writer.drain()
        finally:
            self._waits_for_program = False
            self._alive_at = time.monotonic()

    async def _send_answers(self) -> Close | None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(PIECE_BYTES):
                await self._socket.send_bytes(data)
        return _ENDED

    async def _ping(self) -> None:
        """Ping the client until it is gone."""
        with contextlib.suppress(ConnectionError):
            while self._waits_for_program or time.monotonic() - self._alive_at < SILENCE_S:
                await asyncio.sleep(PING_S)
                with contextlib.suppress(TimeoutError):  # it reads nothing now
                    async with asyncio.timeout(SILENCE_S - PING_S):
                        await self._socket.ping()
        self._writer.transport.abort()

"""A tunnel: the bytes of a TCP connection in binary messages of a websocket, both ways."""

import asyncio
import contextlib

from aiohttp import WSCloseCode, WSMsgType, web

MAX_MESSAGE_BYTES = 4 << 20
"""Maximum size of a message from a client."""
_PIECE_BYTES = 64 << 10
_PING_S = 30.0
_CLOSE_S = 3.0


def make_response() -> web.WebSocketResponse:
    """Return the response that becomes a client's websocket."""
    return web.WebSocketResponse(
        timeout=_CLOSE_S, heartbeat=_PING_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False, writer_limit=_PIECE_BYTES
    )


async def carry(
    socket: web.WebSocketResponse,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    open_tunnels: set[web.WebSocketResponse],
) -> None:
    """Carry bytes until one of both connections ends, and end the other.

    Args:
        socket: the client's websocket, prepared.
        reader: what the program sends.
        writer: what the program gets.
        open_tunnels: has the websocket meanwhile.
    """
    open_tunnels.add(socket)
    answers = asyncio.create_task(_send_answers(socket, reader))
    try:
        await _pass_on(socket, writer)
    finally:
        answers.cancel()
        open_tunnels.discard(socket)
        with contextlib.suppress(asyncio.CancelledError):
            await answers


async def _pass_on(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()
            elif message.type is WSMsgType.TEXT:
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"send bytes in binary messages")
    if not socket.closed:
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the program has closed the connection")


async def _send_answers(socket: web.WebSocketResponse, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_PIECE_BYTES):
            await socket.send_bytes(data)
    await socket.close(message=b"the program has closed the connection")

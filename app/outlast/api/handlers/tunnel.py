"""The handler of tunnels to ports on loopback."""

import asyncio

from aiohttp import web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.core import local_port
from outlast.model.errors import NotFound

_CONNECT_S = 5.0


async def tunnel(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/tunnels/tcp: a websocket that carries the bytes of a TCP connection.

    Raises:
        NotFound: no program listens on the port.
        InvalidRequest: the request does not open a websocket.
    """
    from outlast.api.streaming import tunnel as tunnels  # noqa: PLC0415 - few daemons have one
    from outlast.api.streaming import websockets  # noqa: PLC0415 - likewise

    socket = websockets.make_response(
        request, max_message_bytes=tunnels.MAX_MESSAGE_BYTES, piece_bytes=tunnels.PIECE_BYTES
    )
    reader, writer = await _connect(given.query["port"])
    try:
        await socket.prepare(request)
        await tunnels.Tunnel(socket, reader, writer, request.app[app_keys.STOPPING]).carry()
    finally:
        writer.close()
    return socket


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, reader, writer = await local_port.connect(port)
    except OSError:  # a timeout is one, too
        raise NotFound(f"no program listens on port {port} of loopback") from None
    return reader, writer

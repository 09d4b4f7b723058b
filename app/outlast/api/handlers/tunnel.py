"""The handler of tunnels to ports on loopback."""

import asyncio

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.core import local_port
from outlast.model.errors import InvalidRequest, NotFound

_CONNECT_S = 5.0


async def tunnel(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/tunnels/tcp: a websocket that carries the bytes of a TCP connection.

    Raises:
        NotFound: no program listens on the port.
        InvalidRequest: the request does not open a websocket.
    """
    from outlast.api.streaming.tunnel import Tunnel, make_response  # noqa: PLC0415 - few daemons need websockets

    socket = make_response()
    if request.method != hdrs.METH_GET or not socket.can_prepare(request):
        raise InvalidRequest("this path is for websockets: open it with Upgrade: websocket, version 13")
    reader, writer = await _connect(given.query["port"])
    open_tunnels = request.app[app_keys.TUNNELS]
    try:
        await socket.prepare(request)
        open_tunnels.add(socket)
        await Tunnel(socket, reader, writer).carry()
    finally:
        open_tunnels.discard(socket)
        writer.close()
    return socket


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, reader, writer = await local_port.connect(port)
    except OSError:  # a timeout is one, too
        raise NotFound(f"no program listens on port {port} of loopback") from None
    return reader, writer

"""Websockets of the API: how each is opened, what runs on it, and how the daemon ends it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

from aiohttp import WSCloseCode, hdrs, web

from outlast.model.errors import InvalidRequest

CLOSE_S = 3.0
"""Time for which the client's answer to a close is waited for."""

T = TypeVar("T")


class Close(NamedTuple):
    """How a websocket ends."""

    code: int
    reason: str


async def closing(stopping: asyncio.Event) -> Close:
    """Wait until the daemon stops. `stopping`: set then."""
    await stopping.wait()
    return Close(WSCloseCode.SERVICE_RESTART, "the daemon is stopping: connect again")


def make_response(request: web.Request, *, max_message_bytes: int, piece_bytes: int) -> web.WebSocketResponse:
    """Return the response that becomes a client's websocket once it is prepared. Its user answers pings.

    Args:
        request: asks for the websocket.
        max_message_bytes: maximum size of a message from the client.
        piece_bytes: size of what is sent in one go.

    Raises:
        InvalidRequest: the request does not open a websocket.
    """
    socket = web.WebSocketResponse(
        timeout=CLOSE_S, autoping=False, max_msg_size=max_message_bytes, compress=False, writer_limit=piece_bytes
    )
    if request.method != hdrs.METH_GET or not socket.can_prepare(request):
        raise InvalidRequest("this path is for websockets: open it with Upgrade: websocket, version 13")
    return socket


async def first_done(*jobs: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run jobs side by side until one of them ends, and return that. The others are over, too, then."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done.pop()

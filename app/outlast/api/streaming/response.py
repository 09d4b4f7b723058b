"""Responses that are sent in pieces, and background tasks that must not stop half-way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from aiohttp import hdrs, web
from aiohttp.http import StreamWriter

from outlast.api.streaming.sse import PIECE_BYTES

_TURN_BYTES = 64 * 1024
"""Number of bytes sent to one client before other tasks get a turn."""

UNCHANGED = "no-store, no-transform"
"""Cache-Control of what is read while it is written: a proxy that compresses it would hold it back."""

SETTLE_S = 5.0
"""Maximum time to wait for background tasks when the daemon shuts down."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """Tasks (start, kill ...) that run to completion even if the client that caused them disconnects."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run_to_completion(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Run `change` to its end, also if the calling task is cancelled meanwhile, and return its result."""
        return await asyncio.shield(self.run_in_background(change))

    def run_in_background(self, change: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start `change` and return its task. The caller does not have to wait for the task."""
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait until all tasks have ended, for at most `SETTLE_S`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_S)


class Client:
    """The client of a response that has begun.

    A piece goes to the kernel at once. The part that the kernel does not accept, because the client has not read the
    earlier ones, is kept in memory. A sender that waits for `drained` keeps at most one piece.
    """

    def __init__(self, request: web.Request) -> None:
        self._protocol = request.protocol
        self._writer = cast("StreamWriter", request.writer)
        self._turn_bytes = 0
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=0)

    async def write(self, piece: bytes) -> bool:
        """Send a piece. Return False if a part of it is kept in memory.

        Raises:
            ConnectionResetError: the client has disconnected.
        """
        await self._writer.write(piece, drain=False)
        if self._protocol.writing_paused:
            return False
        self._turn_bytes += len(piece)
        if self._turn_bytes >= _TURN_BYTES:
            # A client that keeps up never makes this task wait, so other tasks get their turn here.
            self._turn_bytes = 0
            await asyncio.sleep(0)
        return True

    async def drained(self) -> None:
        """Wait until nothing is kept in memory.

        Raises:
            ConnectionResetError: the client has disconnected.
        """
        await self._writer.drain()

    async def send(self, piece: bytes) -> None:
        """Send a piece, and wait until nothing of it is kept in memory.

        Raises:
            ConnectionResetError: the client has disconnected.
        """
        if not await self.write(piece):
            await self.drained()


async def send_from(
    request: web.Request, response: web.StreamResponse, body: Callable[[Client], Awaitable[None]]
) -> None:
    """Send `response` with the body that `body` writes; for HEAD, without one.

    If the client disconnects, `body` gets a ConnectionResetError. After any other failure the connection is aborted, so
    that the client does not mistake a part of the response for the whole.
    """
    try:
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await body(Client(request))
        await response.write_eof()
    except Exception as error:  # noqa: BLE001 - the response has begun: it cannot become an error response any more
        transport = request.transport
        gone = transport is None or transport.is_closing()
        if gone and isinstance(error, ConnectionResetError):
            return  # the client has disconnected
        _log.exception("%s %s failed after its response had begun", request.method, request.path)
        if transport is not None:
            transport.abort()


async def send(request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]) -> None:
    """Send `pieces` as the body of `response`, at the speed at which the client reads.

    If the client disconnects, or something fails, `pieces` is closed at once.
    """

    async def send_all(client: Client) -> None:
        async for piece in pieces:
            await client.send(piece)

    async with contextlib.aclosing(pieces):
        await send_from(request, response, send_all)


async def send_or_fail(
    request: web.Request, content_type: str, pieces: AsyncGenerator[bytes, None], size: int | None = None
) -> web.StreamResponse:
    """Send a response of `pieces`, joined to about `PIECE_BYTES` each, and return it.

    Args:
        request: the request to answer.
        content_type: type of the body.
        pieces: the body.
        size: bytes of the whole body, if known. The response then needs no chunked encoding, which copies each piece.

    Raises:
        Exception: what `pieces` raised before the first `PIECE_BYTES`; nothing was sent.
    """
    gathered = _gather(pieces)
    first = await anext(gathered, b"")
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: UNCHANGED, hdrs.VARY: hdrs.ACCEPT}
    if len(first) < PIECE_BYTES:
        await gathered.aclose()
        return web.Response(body=first, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    await send(request, response, _chain(first, gathered))
    return response


async def _gather(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield `pieces` joined to at least `PIECE_BYTES`, except the last."""
    parts: list[bytes] = []
    size = 0
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    if parts:
        yield b"".join(parts)


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(rest):
        yield first
        async for piece in rest:
            yield piece

"""Responses that are sent in pieces, and background tasks that must not stop half-way."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, StreamWriter

from outlast.api.streaming.sse import PIECE_BYTES
from outlast.core.query.follow import FollowInterrupted
from outlast.model.errors import InvalidRequest, NotFound, OutlastError, OutputTrimmed

_TURN_BYTES = 64 * 1024
"""Number of bytes sent to one client before other tasks get a turn."""

UNCHANGED = "no-store, no-transform"
"""Cache-Control of what is read while it is written: a proxy that compresses it would hold it back."""

SETTLE_S = 5.0
"""Maximum time to wait for background tasks when the daemon shuts down."""

_NO_HEADERS: Mapping[str, str] = {}

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """Tasks (start, kill ...) that run to completion even if the client that caused them disconnects."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run_to_completion(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Run `change` to its end, also if the calling task is cancelled meanwhile, and return its result."""
        task = self.run_in_background(change)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

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


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Say how a change has failed of which no client hears any more."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        is_expected = isinstance(error, OutlastError)
        _log.warning("a call whose client is gone failed: %s", error, exc_info=None if is_expected else error)


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

    No other code ends a response that is sent in pieces.

    A response ends in order only if `body` returns. Whatever else happens breaks the connection off: the client gets
    neither a last chunk nor the announced length nor, where the connection's end is the response's end, an orderly end.

    Raises:
        asyncio.CancelledError: the client has disconnected, or the daemon ends before the client has read all.
    """
    try:
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _write_body(request, response, body)
        await response.write_eof()
    except BaseException as error:
        transport = request.transport
        gone = transport is None or transport.is_closing()
        if transport is not None:
            transport.abort()
        if not isinstance(error, Exception):
            raise
        # A response that has begun cannot become an error response any more.
        if not (gone and isinstance(error, ConnectionResetError)) and not isinstance(error, _EXPECTED):
            _log.exception("%s %s failed after its response had begun", request.method, request.path)


async def _write_body(
    request: web.Request, response: web.StreamResponse, body: Callable[[Client], Awaitable[None]]
) -> None:
    client = Client(request)
    by_closing = _ends_by_closing(request, response)
    if by_closing:
        _set_reset_on_close(request, enabled=True)
    await body(client)
    if by_closing:
        await client.drained()  # what the kernel does not have yet could still be lost
        _set_reset_on_close(request, enabled=False)


_EXPECTED = (FollowInterrupted, NotFound, OutputTrimmed)
"""Errors in the course of things: the daemon is stopping, or what is read was purged or trimmed."""


def _ends_by_closing(request: web.Request, response: web.StreamResponse) -> bool:
    """Return whether nothing but the end of the connection tells the client where the response ends."""
    return request.version < HttpVersion11 and response.content_length is None


def _tcp_socket(request: web.Request) -> socket.socket | None:
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    return None if sock is None or sock.family == socket.AF_UNIX else sock


def _set_reset_on_close(request: web.Request, *, enabled: bool) -> None:
    """Let the kernel reset the connection when it is closed, also by a kill of this program."""
    sock = _tcp_socket(request)
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", enabled, 0))


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
    request: web.Request,
    content_type: str,
    pieces: AsyncGenerator[bytes, None],
    size: int | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> web.StreamResponse:
    """Send a response of `pieces`, joined to about `PIECE_BYTES` each, and return it.

    Args:
        request: the request to answer.
        content_type: type of the body.
        pieces: the body.
        size: bytes of the whole body, if known. The response then needs no chunked encoding, which copies each piece.
        headers: further headers of the response.

    Raises:
        InvalidRequest: the client could not tell a part of the response from the whole.
        Exception: what `pieces` raised before the first `PIECE_BYTES`; nothing was sent.
    """
    gathered = _gather(pieces)
    first = await anext(gathered, b"")
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: UNCHANGED, hdrs.VARY: hdrs.ACCEPT, **headers}
    if len(first) < PIECE_BYTES:
        await gathered.aclose()
        return web.Response(body=first, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    if _ends_by_closing(request, response) and _tcp_socket(request) is None:  # only TCP has resets
        await gathered.aclose()
        raise InvalidRequest("HTTP/1.0 over a unix socket cannot tell a cut answer from a whole one: use HTTP/1.1")
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

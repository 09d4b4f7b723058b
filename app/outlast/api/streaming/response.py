"""What outlives a moment: answers sent in pieces, and changes that must not stop half-way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from aiohttp import hdrs, web
from aiohttp.http import StreamWriter

from outlast.api.streaming.sse import PIECE_BYTES

_TURN_BYTES = 64 * 1024  # are sent to one client; then others have their turn
SETTLE_S = 5.0  # for changes to come to their end when the daemon goes

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """Changes (start, kill, ...) under way. One that has begun is carried through even if its caller hangs up."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run_to_completion(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Run `change` to its end, also when the calling task is cancelled meanwhile."""
        return await asyncio.shield(self.begin(change))

    def begin(self, change: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin `change`, which nobody need wait for."""
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait for what is under way, for `SETTLE_S` at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_S)


class Client:
    """Who reads an answer that has begun.

    What is sent goes to the system at once. What the system does not take, for the client has not read what went
    before, is kept here: of one piece at most, if whoever sends waits for `drained`.
    """

    def __init__(self, request: web.Request) -> None:
        self._protocol = request.protocol
        self._writer = cast("StreamWriter", request.writer)
        self._turn_bytes = 0
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=0)

    async def put(self, piece: bytes) -> bool:
        """Send a piece. False: a part of it is kept.

        Raises:
            ConnectionResetError: the client has hung up.
        """
        await self._writer.write(piece, drain=False)
        if self._protocol.writing_paused:
            return False
        self._turn_bytes += len(piece)
        if self._turn_bytes >= _TURN_BYTES:
            # Nothing has to be waited for while the client keeps up, but others want their turn.
            self._turn_bytes = 0
            await asyncio.sleep(0)
        return True

    async def drained(self) -> None:
        """Wait until nothing is kept.

        Raises:
            ConnectionResetError: the client has hung up.
        """
        await self._writer.drain()

    async def send(self, piece: bytes) -> None:
        """Send a piece, and wait until nothing of it is kept.

        Raises:
            ConnectionResetError: the client has hung up.
        """
        if not await self.put(piece):
            await self.drained()


async def send_from(
    request: web.Request, response: web.StreamResponse, body: Callable[[Client], Awaitable[None]]
) -> None:
    """Send `response` with what `body` sends.

    When the client hangs up, `body` ends with its error. A failure breaks the connection off, so that the client cannot
    take what it has got for the whole.
    """
    try:
        await response.prepare(request)
        await body(Client(request))
        await response.write_eof()
    except Exception as error:  # noqa: BLE001 - the answer has begun: it cannot become an error any more
        transport = request.transport
        gone = transport is None or transport.is_closing()
        if gone and isinstance(error, ConnectionResetError):
            return  # the client hung up
        _log.exception("%s %s broke off", request.method, request.path)
        if transport is not None:
            transport.abort()


async def send(request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]) -> None:
    """Send `pieces` as the body of `response`, waiting whenever the client does not keep up.

    When the client hangs up, or something fails, `pieces` is closed at once.
    """

    async def send_all(client: Client) -> None:
        async for piece in pieces:
            await client.send(piece)

    async with contextlib.aclosing(pieces):
        await send_from(request, response, send_all)


async def send_or_fail(
    request: web.Request, content_type: str, pieces: AsyncGenerator[bytes, None], size: int | None = None
) -> web.StreamResponse:
    """Answer with `pieces`, gathered to about `PIECE_BYTES`. `size`: of all of them in bytes, if it is known.

    One that knows the size needs no framing, for which each piece would be copied once more.

    Raises:
        Exception: what `pieces` raised before the first of these were complete; nothing has been sent then.
    """
    gathered = _gather(pieces)
    first = await anext(gathered, b"")
    headers = {hdrs.CACHE_CONTROL: "no-store", hdrs.VARY: hdrs.ACCEPT}
    if len(first) < PIECE_BYTES:
        await gathered.aclose()
        return web.Response(body=first, content_type=content_type, headers=headers)
    response = web.StreamResponse(headers={**headers, hdrs.CONTENT_TYPE: content_type})
    response.content_length = size
    await send(request, response, _chain(first, gathered))
    return response


async def _gather(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield `pieces` joined to at least `PIECE_BYTES`, but for the last."""
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

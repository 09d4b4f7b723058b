"""What outlives a moment: answers sent in pieces, and changes that must not stop half-way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from aiohttp import hdrs, web

from app.api.sse import PIECE_BYTES

SETTLE_S = 5.0  # for changes to come to their end when the daemon goes

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Changes:
    """Changes (start, kill, ...) under way. One that has begun is carried through even if its caller hangs up."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def carry_through(self, change: Coroutine[Any, Any, _T]) -> _T:
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


async def send(request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]) -> None:
    """Send `pieces` as the body of `response`, waiting whenever the client does not keep up.

    When the client hangs up, or something fails, `pieces` is closed at once. A failure breaks the connection off,
    so that the client cannot take what it has got for the whole.
    """
    async with contextlib.aclosing(pieces):
        try:
            await response.prepare(request)
            async for piece in pieces:
                await response.write(piece)
                if len(piece) >= PIECE_BYTES // 2:
                    # `write` never waits for a client that keeps up, but others want their turn.
                    await asyncio.sleep(0)
            await response.write_eof()
        except Exception as error:  # noqa: BLE001 - the answer has begun: it cannot become an error any more
            transport = request.transport
            gone = transport is None or transport.is_closing()
            if gone and isinstance(error, ConnectionResetError):
                return  # the client hung up
            _log.exception("%s %s broke off", request.method, request.path)
            if transport is not None:
                transport.abort()


async def send_or_fail(
    request: web.Request, content_type: str, pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Answer with `pieces`, gathered to about `PIECE_BYTES`.

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

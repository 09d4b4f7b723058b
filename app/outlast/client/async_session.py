"""Calls and streams inside an event loop. `sync_session.py` is made of this file by `make fix`: change this one."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.client.async_transport import AsyncTransport
from outlast.client.calls import Call, Page
from outlast.client.errors import Disconnected
from outlast.client.request import Answer, Attempts, Request
from outlast.client.subscription import Subscription

if TYPE_CHECKING:
    from outlast.client.async_socket import AsyncSocket

T = TypeVar("T")
_OK = 200


class AsyncSession:
    """Drives calls and subscriptions, which know no connection, over connections to one daemon.

    Attributes:
        give_up_after_s: time for which a call whose connection breaks is repeated; None: for ever.
        has_answered: whether the daemon has answered at all.
    """

    def __init__(self, transport: AsyncTransport, give_up_after_s: float | None) -> None:
        self._transport = transport
        self.give_up_after_s = give_up_after_s
        self.has_answered = False

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def call(self, call: Call[T]) -> T:
        """Make a call, and return its result."""
        try:
            request = next(call)
            while True:
                request = call.send(await self._answer(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def open_socket(self, request: Request) -> "AbstractAsyncContextManager[AsyncSocket]":
        """Ask for a websocket. See `AsyncTransport.open_socket`."""
        return self._transport.open_socket(request)

    async def pages(self, page: Callable[[Any], Call[Page[T]]]) -> AsyncGenerator[T, None]:
        """Yield the items of all pages. `page`: the call for the page with a cursor; None is the first one."""
        cursor = None
        while True:
            items, cursor = await self.call(page(cursor))
            for item in items:
                yield item
            if cursor is None:
                return

    async def batches(self, subscription: Subscription[T]) -> AsyncGenerator[list[T], None]:
        """Yield the items of a stream as they come, over as many connections as that takes.

        One by one they would pass through each generator on the way, which takes longer than reading them.
        """
        while not subscription.is_over:
            try:
                async with aclosing(self._connection(subscription)) as batches:
                    async for items in batches:
                        yield items
            except Disconnected as error:
                subscription.broke(error)
            if not subscription.is_over:
                await asyncio.sleep(subscription.pause_s)

    async def _connection(self, subscription: Subscription[T]) -> AsyncGenerator[list[T], None]:
        """Yield the items that come over one connection."""
        if (look := subscription.look_before()) is not None:
            subscription.looked(await self._answer(look))
        async with self._transport.open(subscription.request()) as reply:
            self.has_answered = True
            body = b"" if reply.status == _OK else await reply.read()
            if not subscription.opened(reply.status, reply.headers, body):
                return
            async with aclosing(reply.chunks()) as chunks:
                async for data in chunks:
                    if items := subscription.feed(data):
                        yield items
                    if subscription.is_over:
                        return
            subscription.ended()

    async def _answer(self, request: Request) -> Answer:
        """Return the answer to a request, which is repeated where that does no harm."""
        attempts = Attempts(request, self.give_up_after_s)
        while True:
            try:
                answer = await self._transport.ask(request)
            except Disconnected as error:
                pause_s = attempts.broke(error)
            else:
                self.has_answered = True
                again_s = attempts.answered(answer)
                if again_s is None:
                    return replace(answer, repeated=attempts.unanswered)
                pause_s = again_s
            await asyncio.sleep(pause_s)

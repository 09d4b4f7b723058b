"""Calls and streams. Made of `async_session.py` by `make fix`: change that one."""

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.client.calls import Call, Page
from outlast.client.errors import Disconnected
from outlast.client.request import Answer, Attempts, Request
from outlast.client.subscription import Subscription
from outlast.client.sync_transport import Transport

if TYPE_CHECKING:
    from outlast.client.sync_socket import Socket

T = TypeVar("T")
_OK = 200


class Session:
    """Drives calls and subscriptions, which know no connection, over connections to one daemon.

    Attributes:
        give_up_after_s: time for which a call whose connection breaks is repeated; None: for ever.
        has_answered: whether the daemon has answered at all.
    """

    def __init__(self, transport: Transport, give_up_after_s: float | None) -> None:
        self._transport = transport
        self.give_up_after_s = give_up_after_s
        self.has_answered = False

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def call(self, call: Call[T]) -> T:
        """Make a call, and return its result."""
        try:
            request = next(call)
            while True:
                request = call.send(self._answer(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def open_socket(self, request: Request) -> "AbstractContextManager[Socket]":
        """Ask for a websocket. See `Transport.open_socket`."""
        return self._transport.open_socket(request)

    def pages(self, page: Callable[[Any], Call[Page[T]]]) -> Generator[T, None]:
        """Yield the items of all pages. `page`: the call for the page with a cursor; None is the first one."""
        cursor = None
        while True:
            items, cursor = self.call(page(cursor))
            yield from items
            if cursor is None:
                return

    def batches(self, subscription: Subscription[T]) -> Generator[list[T], None]:
        """Yield the items of a stream as they come, over as many connections as that takes.

        One by one they would pass through each generator on the way, which takes longer than reading them.
        """
        while not subscription.is_over:
            try:
                with closing(self._connection(subscription)) as batches:
                    yield from batches
            except Disconnected as error:
                subscription.broke(error)
            if not subscription.is_over:
                time.sleep(subscription.pause_s)

    def _connection(self, subscription: Subscription[T]) -> Generator[list[T], None]:
        """Yield the items that come over one connection."""
        if (look := subscription.look_before()) is not None:
            subscription.looked(self._answer(look))
        with self._transport.open(subscription.request()) as reply:
            self.has_answered = True
            body = b"" if reply.status == _OK else reply.read()
            if not subscription.opened(reply.status, reply.headers, body):
                return
            with closing(reply.chunks()) as chunks:
                for data in chunks:
                    if items := subscription.feed(data):
                        yield items
                    if subscription.is_over:
                        return
            subscription.ended()

    def _answer(self, request: Request) -> Answer:
        """Return the answer to a request, which is repeated where that does no harm."""
        attempts = Attempts(request, self.give_up_after_s)
        while True:
            try:
                answer = self._transport.ask(request)
            except Disconnected as error:
                pause_s = attempts.broke(error)
            else:
                self.has_answered = True
                again_s = attempts.answered(answer)
                if again_s is None:
                    return replace(answer, repeated=attempts.unanswered)
                pause_s = again_s
            time.sleep(pause_s)

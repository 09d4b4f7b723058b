"""A connection that has shown the token, as aiohttp serves it.

Here is what it says to bytes that are not HTTP, and whether its client has given up.
"""

import select
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import _ErrInfo

from outlast.api import headers
from outlast.api.errors import error_response


def has_given_up(request: web.Request) -> bool:
    """Return whether the client has closed the connection, or its sending side, as the kernel knows it.

    The event loop tells of that only after it has handed the request over, and sometimes too late. Who closes only the
    sending side does the same as who gives up, until the answer is sent.
    """
    transport = request.transport
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


class Connection(web.RequestHandler):
    """A connection that reads nothing more after the first error of the parser.

    After an error aiohttp's parser fails at each read, and each failure would be kept with the bytes that it is about.
    """

    __slots__ = ("_is_garbled",)

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._is_garbled = False

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._is_garbled:
            return
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._is_garbled = True
            request = self._current_request
            if request is not None and not request.content.is_eof():
                request.content.set_exception(web.RequestPayloadError("it is not what its headers say"))
                request.content.feed_eof()  # aiohttp need not wait for the rest

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to bytes that are no request. They are not logged, because they may hold the token."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        response = error_response(
            status,
            "INVALID_REQUEST",
            "what was sent is not an HTTP request",
            {**headers.DEFAULT, **headers.FIXED},
        )
        response.force_close()
        return response

"""A line in the log for each request, if the operator wants that."""

import asyncio
import logging
import time

from aiohttp import web

from outlast.api.errors import Handler

_log = logging.getLogger("outlast.access")


class AccessLog:
    """The log of all requests with the token. Query strings and headers are left out: they may hold secrets."""

    def __init__(self) -> None:
        self._sent: dict[int, int | None] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass `request` on to `handler`, and log it when it is answered, or its client has gone."""
        began = time.perf_counter()
        self._sent[id(request)] = None
        try:
            response = await handler(request)
        except asyncio.CancelledError:
            _log_request(request, self._sent[id(request)], began, is_broken=True)
            raise
        else:
            _log_request(request, response.status, began, is_broken=False)
            return response
        finally:
            self._sent.pop(id(request), None)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Note the status of an answer that is sent while its handler runs."""
        if id(request) in self._sent:
            self._sent[id(request)] = response.status


def _log_request(request: web.Request, status: int | None, began: float, *, is_broken: bool) -> None:
    fields = {
        "method": request.method,
        "path": request.path,
        "status": status,
        "duration_ms": round((time.perf_counter() - began) * 1000, 1),
        "client": request.remote or "unix",
        "broken_off": is_broken,
    }
    sentence = "%(method)s %(path)s %(status)s in %(duration_ms)s ms from %(client)s"
    if is_broken:
        sentence = "%(method)s %(path)s %(status)s broken off after %(duration_ms)s ms from %(client)s"
    _log.info(sentence, fields, extra={"fields": fields})

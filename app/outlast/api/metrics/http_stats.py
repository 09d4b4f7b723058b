"""Figures of the requests that have reached the application."""

import time
from collections import Counter

from aiohttp import hdrs, web

from outlast.api.errors import Handler
from outlast.core.histogram import QUICK_S, Histogram

UNMATCHED = "unmatched"
"""Route of requests for a path, or by a method, that is not served."""
OTHER = "other"
"""Method of requests by a method that HTTP does not know."""


class HttpStats:
    """Number of answers, and time until they began. The end of an answer depends on how fast its client reads.

    Attributes:
        answers: number of answers by method, route and status.
        duration_s: time from a request to the beginning of its answer, by method and route.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.duration_s: dict[tuple[str, str], Histogram] = {}
        self._began: dict[int, float] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass `request` on to `handler`, and count the answer unless `on_prepare` has."""
        self._began[id(request)] = time.perf_counter()
        try:
            response = await handler(request)
            self._count(request, response.status)
        finally:
            self._began.pop(id(request), None)
        return response

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count an answer that is sent while its handler runs."""
        self._count(request, response.status)

    def _count(self, request: web.Request, status: int) -> None:
        """Count an answer, once. Labels are of a known set, whatever clients send."""
        began = self._began.pop(id(request), None)
        if began is None:
            return
        method = request.method if request.method in hdrs.METH_ALL else OTHER
        resource = request.match_info.route.resource
        key = method, UNMATCHED if resource is None else resource.canonical
        self.answers[*key, status] += 1
        histogram = self.duration_s.get(key)
        if histogram is None:
            histogram = self.duration_s[key] = Histogram(QUICK_S)
        histogram.observe(time.perf_counter() - began)

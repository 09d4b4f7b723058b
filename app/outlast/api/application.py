"""The aiohttp application: routes, middlewares, headers. Nothing here opens a socket."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from outlast.api import app_keys, errors, headers
from outlast.api.access_log import AccessLog
from outlast.api.auth import Guard
from outlast.api.lazy_openapi import LazyOpenApi
from outlast.api.metrics.http_stats import HttpStats
from outlast.api.parsing import MAX_BODY_BYTES
from outlast.api.route import make_handler
from outlast.api.routes import ROUTES
from outlast.api.streaming.response import BackgroundTasks
from outlast.api.streaming.sse import EventCache
from outlast.core.manager import ProcessManager
from outlast.core.projects.projects import Projects
from outlast.linux.own_usage import start_time

_FILE_THREADS = 4


def make_app(
    manager: ProcessManager,
    projects: Projects,
    *,
    token: str,
    version: str,
    allowed_hosts: Iterable[str] = (),
    metrics_tags: Sequence[str] = (),
    logs_requests: bool = False,
    has_files: bool = True,
) -> web.Application:
    """Return the application that serves `manager`.

    `HttpServer` serves it. A shutdown interrupts the manager's followers before it waits for their handlers; a stream
    whose client does not read is cut after the server's `handler_timeout_s`.

    Args:
        manager: the process manager; its owner opens and closes it.
        projects: the projects; likewise.
        token: API token that clients must send.
        version: version of the program, shown to clients.
        allowed_hosts: host names by which browsers reach this server, besides loopback and IP addresses.
        metrics_tags: tags of processes that become labels of their metrics.
        logs_requests: whether each request is logged.
        has_files: whether files of the machine can be read and written.

    Raises:
        ValueError: the token is empty.
    """
    guard = Guard(token, allowed_hosts)
    stats = HttpStats()
    access_log = AccessLog()
    middlewares = [stats.middleware, errors.middleware, guard.middleware]
    if logs_requests:
        middlewares.insert(0, access_log.middleware)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[app_keys.GUARD] = guard
    app[app_keys.MANAGER] = manager
    app[app_keys.PROJECTS] = projects
    app[app_keys.VERSION] = version
    app[app_keys.HTTP_STATS] = stats
    app[app_keys.STARTED_AT_S] = start_time()
    app[app_keys.METRICS_TAGS] = tuple(metrics_tags)
    app[app_keys.EVENTS] = EventCache()
    app[app_keys.BACKGROUND_TASKS] = BackgroundTasks()
    app[app_keys.STOPPING] = asyncio.Event()
    app[app_keys.FILE_THREADS] = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="files") if has_files else None
    app[app_keys.OPENAPI] = LazyOpenApi(lambda: _make_document(version))
    _add_routes(app, guard)
    app.on_response_prepare.extend([_set_headers, stats.on_prepare])
    if logs_requests:
        app.on_response_prepare.append(access_log.on_prepare)
    app.on_shutdown.append(_end_streams)
    app.on_cleanup.append(_end_threads)
    return app


def _add_routes(app: web.Application, guard: Guard) -> None:
    for route in ROUTES:
        path = route.path.replace("{ref}", "{ref:[^/]+}")  # aiohttp's default pattern excludes braces
        handler = make_handler(route)
        for method in (route.method, hdrs.METH_HEAD) if route.method == hdrs.METH_GET else (route.method,):
            app.router.add_route(method, path, handler, expect_handler=guard.expect)


def _make_document(version: str) -> dict[str, Any]:
    from outlast.api.openapi import make_document  # noqa: PLC0415 - a start must not wait for its imports

    return make_document(ROUTES, version)


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    if request.version < HttpVersion11 and hdrs.CONNECTION not in response.headers:
        response.force_close()  # only the end of the connection tells such a client where the body ends
    response.headers.update(headers.FIXED)
    for name, value in headers.DEFAULT.items():
        response.headers.setdefault(name, value)


async def _end_streams(app: web.Application) -> None:
    app[app_keys.MANAGER].interrupt_followers()
    app[app_keys.STOPPING].set()
    await app[app_keys.BACKGROUND_TASKS].settle()


async def _end_threads(app: web.Application) -> None:
    threads = app[app_keys.FILE_THREADS]
    if threads is not None:
        threads.shutdown(wait=False, cancel_futures=True)

"""Keys of the objects that the application holds for its handlers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from outlast.api.auth import Guard
from outlast.api.lazy_openapi import LazyOpenApi
from outlast.api.metrics.http_stats import HttpStats
from outlast.api.streaming.response import BackgroundTasks
from outlast.api.streaming.sse import EventCache
from outlast.core.manager import ProcessManager
from outlast.core.projects.projects import Projects

GUARD = web.AppKey("GUARD", Guard)
MANAGER = web.AppKey("MANAGER", ProcessManager)
PROJECTS = web.AppKey("PROJECTS", Projects)
VERSION = web.AppKey("VERSION", str)
EVENTS = web.AppKey("EVENTS", EventCache)
BACKGROUND_TASKS = web.AppKey("BACKGROUND_TASKS", BackgroundTasks)
OPENAPI = web.AppKey("OPENAPI", LazyOpenApi)
HTTP_STATS = web.AppKey("HTTP_STATS", HttpStats)
STARTED_AT_S = web.AppKey("STARTED_AT_S", float)
METRICS_TAGS = web.AppKey("METRICS_TAGS", tuple[str, ...])
FILE_THREADS: web.AppKey[ThreadPoolExecutor | None] = web.AppKey("FILE_THREADS")
"""Threads that read and write files, a few: a disk that hangs must not hold up other work. None: files are off."""
STOPPING = web.AppKey("STOPPING", asyncio.Event)
"""Set when the daemon stops: websockets end then."""

"""Everything that handlers find on the application."""

from aiohttp import web

from outlast.api.document import Document
from outlast.api.streaming.response import BackgroundTasks
from outlast.api.streaming.sse import EventCache
from outlast.core.manager import ProcessManager

MANAGER = web.AppKey("MANAGER", ProcessManager)
VERSION = web.AppKey("VERSION", str)
EVENTS = web.AppKey("EVENTS", EventCache)
BACKGROUND_TASKS = web.AppKey("CHANGES", BackgroundTasks)
DOCUMENT = web.AppKey("DOCUMENT", Document)

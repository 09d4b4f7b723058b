"""Everything that handlers find on the application."""

from aiohttp import web

from app.api.document import Document
from app.api.sse import EventCache
from app.api.streaming import Changes
from app.core.manager import ProcessManager

MANAGER = web.AppKey("MANAGER", ProcessManager)
VERSION = web.AppKey("VERSION", str)
EVENTS = web.AppKey("EVENTS", EventCache)
CHANGES = web.AppKey("CHANGES", Changes)
DOCUMENT = web.AppKey("DOCUMENT", Document)

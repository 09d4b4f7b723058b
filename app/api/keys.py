"""Everything that handlers find on the application."""

from aiohttp import web

from app.api.sse import EventCache
from app.api.streaming import InFlight
from app.core.manager import ProcessManager

MANAGER = web.AppKey("MANAGER", ProcessManager)
VERSION = web.AppKey("VERSION", str)
EVENTS = web.AppKey("EVENTS", EventCache)
IN_FLIGHT = web.AppKey("IN_FLIGHT", InFlight)
DOCUMENT = web.AppKey("DOCUMENT", bytes)  # openapi.json

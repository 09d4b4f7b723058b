"""Handler of the event feed: Server-Sent Events without end, or the stored events as NDJSON."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.handlers.follow import EVENT_STREAM, HEARTBEAT_S, LAST_EVENT_ID, load_last_event_id
from outlast.api.handlers.output import NDJSON, NDJSON_UTF_8
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.streaming import sse
from outlast.api.streaming.response import send, send_or_fail
from outlast.core.query.event_feed import EventFeed, EventQuery
from outlast.model.event import Event, EventGap
from outlast.model.output import GapReason

SSE = "text/event-stream"


async def follow(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/events."""
    query: EventQuery = given.query
    seen = load_last_event_id(request.headers.get(LAST_EVENT_ID, ""))
    if seen is not None:
        query = replace(query, after=max(query.after, seen), tail=None)  # as in `follow.resume`
    manager = request.app[app_keys.MANAGER]
    if query.wanted.process_id is not None:
        process_id = await manager.id_of(query.wanted.process_id)
        query = replace(query, wanted=replace(query.wanted, process_id=process_id))
    feed = manager.events
    if preferred(request.headers.get(hdrs.ACCEPT, ""), (SSE, NDJSON)) == NDJSON:
        return await send_or_fail(request, NDJSON_UTF_8, _lines(feed, query))
    response = web.StreamResponse(headers={**EVENT_STREAM, hdrs.VARY: hdrs.ACCEPT})
    await send(request, response, _events(feed, query))
    return response


def to_data(event: Event) -> dict[str, Any]:
    """Return the fields of an event but its id, as `responses.Event` describes them."""
    data: dict[str, Any] = {
        "type": event.type,
        "process_id": event.process_id,
        "name": event.name,
        "tags": dict(event.tags),
        "pid": event.pid,
        "run": event.run,
        "timestamp": event.ts_ms,
    }
    if event.ending is not None:
        ending = event.ending
        data |= {"exit_code": ending.exit_code, "signal": ending.signal, "reason": ending.reason}
    if event.purge_reason is not None:
        data["reason"] = event.purge_reason
    return data


def _gap(gap: EventGap) -> dict[str, Any]:
    return {"from": gap.first_id, "to": gap.id, "reason": GapReason.RETENTION}


async def _events(feed: EventFeed, query: EventQuery) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(feed.follow(query, HEARTBEAT_S)) as found:
        async for events in found:
            yield b"".join(map(_event, events or ())) or sse.KEEP_ALIVE


async def _lines(feed: EventFeed, query: EventQuery) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(feed.stored(query)) as found:
        async for events in found:
            for event in events:
                data = {"gap": _gap(event)} if isinstance(event, EventGap) else to_data(event)
                yield sse.ndjson_line({"id": event.id, **data})


def _event(event: Event | EventGap) -> bytes:
    if isinstance(event, EventGap):
        return b"id: %d\nevent: gap\ndata: %b\n\n" % (event.id, sse.dumps(_gap(event)))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.type.encode(), sse.dumps(to_data(event)))

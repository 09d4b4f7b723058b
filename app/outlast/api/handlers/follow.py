"""Following a process's output: history, then what comes, as Server-Sent Events."""

import contextlib
from dataclasses import replace
from functools import partial

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput, load
from outlast.api.route import Call, ref_of
from outlast.api.schemas.processes import ResumeHeader
from outlast.api.streaming import sse
from outlast.api.streaming.response import Client, send_from
from outlast.core.manager import ProcessManager
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.output import Stream
from outlast.model.process import Process

HEARTBEAT_S = 15.0
LAST_EVENT_ID = "Last-Event-ID"

EVENT_STREAM = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}
_RESUME = ResumeHeader()


def of(stream: Stream | None) -> Call:
    """Make the call that follows `stream`, or both."""
    return partial(_follow, stream)


async def _follow(stream: Stream | None, request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/(stdout|stderr|output)/follow."""
    query = resume(replace(given.query, stream=stream), load_last_event_id(request))
    manager = request.app[app_keys.MANAGER]
    view = await manager.get(ref_of(request))
    response = web.StreamResponse(headers=EVENT_STREAM)
    feed = partial(_feed, manager=manager, cache=request.app[app_keys.EVENTS], process=view.process, query=query)
    await send_from(request, response, feed)
    return response


def load_last_event_id(request: web.Request) -> int | None:
    """Return the header of a follower that comes back; None: there is none.

    Raises:
        InvalidRequest: it is not one of our ids.
    """
    text = request.headers.get(LAST_EVENT_ID, "")
    if not text:
        return None
    seen: int = load(_RESUME, {LAST_EVENT_ID: text})["last_event_id"]
    return seen


def resume(query: OutputQuery, seen: int | None) -> OutputQuery:
    """Start after `seen`, the id that a follower that comes back has shown; None: it has shown none.

    An EventSource sends the header beside the URL it began with: the later of the header and `after` holds,
    and `tail` no longer does, for it would skip what was written while the follower was away.
    """
    if seen is None:
        return query
    return replace(query, after=max(query.after, seen), tail=None)


async def _feed(
    client: Client, manager: ProcessManager, cache: sse.EventCache, process: Process, query: OutputQuery
) -> None:
    """Send what there is and what comes, to a client that reads as fast or as slowly as it likes."""
    try:
        while (sent := await _feed_while_read(client, manager, cache, process, query)) is not None:
            # While a client does not read, this number is all that is held for it. It goes on as if it came back.
            query = resume(query, sent)
            await client.drained()
    except FollowInterrupted:
        return  # no eof: the client comes back with Last-Event-ID
    await client.send(sse.EOF)


async def _feed_while_read(
    client: Client, manager: ProcessManager, cache: sse.EventCache, process: Process, query: OutputQuery
) -> int | None:
    """Send events until the client does not keep up, and return the id of the last one. None: there are no more."""
    follow = manager.follow_batches(process, query, heartbeat_s=HEARTBEAT_S)
    async with contextlib.aclosing(follow) as found:
        async for chunks in found:
            if not chunks:
                await client.send(sse.KEEP_ALIVE)
                continue
            for piece in cache.pieces(chunks):
                if not await client.put(piece.events):
                    return piece.last_seq
            del chunks, piece  # they would be held until the next ones are there, which may take hours
    return None

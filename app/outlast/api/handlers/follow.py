"""Handlers that follow the output of a process as Server-Sent Events: stored output, then new output."""

import contextlib
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.event_ids import EOF_SUFFIX
from outlast.api.handlers.serializers import run_status
from outlast.api.parsing import RequestInput, load
from outlast.api.route import Call, ref_of
from outlast.api.schemas.output import ResumeHeader
from outlast.api.streaming import sse
from outlast.api.streaming.response import UNCHANGED, Client, send_from
from outlast.core.manager import ProcessManager
from outlast.core.query.output_cursor import OutputQuery
from outlast.failpoints import failpoint
from outlast.model.output import Stream
from outlast.model.process import Process

HEARTBEAT_S = 15.0
"""Time without output after which a comment is sent, so that proxies keep the connection."""

LAST_EVENT_ID = "Last-Event-ID"

EVENT_STREAM = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: UNCHANGED,
    "X-Accel-Buffering": "no",  # nginx would hold events back
}
_RESUME = ResumeHeader()


def handler_for(stream: Stream | None) -> Call:
    """Return the handler that follows `stream`; None: both streams."""
    return partial(_follow, stream)


async def _follow(stream: Stream | None, request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/(stdout|stderr|output)/follow."""
    seen, had_eof = _last_event_id(request)
    query = resume(replace(given.query, stream=stream).fix_end(), seen)
    manager = request.app[app_keys.MANAGER]
    view = await manager.get(ref_of(request))
    if had_eof and await manager.is_over(view.process, query):
        return web.Response(status=HTTPStatus.NO_CONTENT)  # an EventSource stops reconnecting
    response = web.StreamResponse(headers=EVENT_STREAM)
    feed = partial(_feed, manager=manager, cache=request.app[app_keys.EVENTS], process=view.process, query=query)
    await send_from(request, response, feed)
    return response


def _last_event_id(request: web.Request) -> tuple[int | None, bool]:
    """Return the number in the header Last-Event-ID (see `load_last_event_id`), and whether it is that of an `eof`."""
    text = request.headers.get(LAST_EVENT_ID, "")
    return load_last_event_id(text.removesuffix(EOF_SUFFIX)), text.endswith(EOF_SUFFIX)


def load_last_event_id(text: str) -> int | None:
    """Return the id in the text of the header Last-Event-ID; None if it is missing or empty.

    Raises:
        InvalidRequest: the header is not an id.
    """
    if not text:
        return None
    seen: int = load(_RESUME, {LAST_EVENT_ID: text})["last_event_id"]
    return seen


def resume(query: OutputQuery, seen: int | None) -> OutputQuery:
    """Return `query` so that it starts after `seen`, the last id that the follower has received (None: unchanged).

    An EventSource sends the header with the URL that it began with. So the later of the header and `after` counts, and
    `tail` is dropped: it would skip what was written while the follower was disconnected.
    """
    if seen is None:
        return query
    return replace(query, after=max(query.after, seen), tail=None)


async def _feed(
    client: Client, manager: ProcessManager, cache: sse.EventCache, process: Process, query: OutputQuery
) -> None:
    """Send stored and new events to a client, at the speed at which the client reads.

    Raises:
        FollowInterrupted: the daemon is stopping; the client reconnects with Last-Event-ID.
        NotFound: the process was purged, perhaps before all of its output was read.
    """
    while True:
        sent, is_over = await _feed_while_read(client, manager, cache, process, query)
        # While a client does not read, this number is all that is kept for it. It resumes as if it reconnected.
        query = resume(query, sent)
        if is_over:
            break
        await client.drained()
    run = (await manager.get_when_readable(process.spec.id)).process.run
    # What was there at the beginning and was not sent is not wanted: `tail` or another condition left it out.
    await client.send(sse.eof_event(max(query.after, process.output.last_seq), run_status(run)))


async def _feed_while_read(
    client: Client, manager: ProcessManager, cache: sse.EventCache, process: Process, query: OutputQuery
) -> tuple[int | None, bool]:
    """Send events until the client falls behind, and return the id of the last one, and whether the stream is over."""
    sent: int | None = None
    follow = manager.follow_batches(process, query, heartbeat_s=HEARTBEAT_S)
    async with contextlib.aclosing(follow) as found:
        async for chunks in found:
            if not chunks:
                await client.send(sse.KEEP_ALIVE)
                continue
            for piece in cache.pieces(chunks):
                sent = piece.last_seq
                keeps_up = await client.write(piece.events)
                failpoint("event-sent")
                if not keeps_up:
                    return sent, False
            del chunks, piece  # else they stay in memory until the next ones come, which may take hours
    return sent, True

"""Handler that follows the output of several processes as one stream of Server-Sent Events."""

import contextlib
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from outlast.api import app_keys
from outlast.api.event_ids import EOF_SUFFIX
from outlast.api.handlers.follow import EVENT_STREAM, HEARTBEAT_S, LAST_EVENT_ID
from outlast.api.handlers.serializers import run_status
from outlast.api.parsing import RequestInput, load
from outlast.api.schemas.group import ResumeGroupHeader
from outlast.api.streaming import sse
from outlast.api.streaming.response import Client, send_from
from outlast.core.manager import ProcessManager
from outlast.core.query.group import GroupQuery, Item, Joined, Left, Printed, check_size
from outlast.core.query.group_position import GroupPosition
from outlast.model.errors import NotFound
from outlast.model.output import Chunk, count_lines
from outlast.model.process import Process

_RESUME = ResumeGroupHeader()
_EVENT_BYTES = 160
"""Approximate size of an event besides its line and its id."""


async def follow(request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/output/follow."""
    query: GroupQuery
    query, position = given.query
    manager = request.app[app_keys.MANAGER]
    seen = request.headers.get(LAST_EVENT_ID, "")
    if seen:
        position = load(_RESUME, {LAST_EVENT_ID: seen})["last_event_id"]
    if seen.endswith(EOF_SUFFIX) and not query.tags:
        return web.Response(status=HTTPStatus.NO_CONTENT)  # an EventSource stops reconnecting
    if position is None:
        position = await manager.open_group(query)
    else:
        check_size(position.seqs)
    stream = _GroupStream(manager, query, position)
    response = web.StreamResponse(headers=EVENT_STREAM)
    await send_from(request, response, stream.send_to)
    return response


class _GroupStream:
    """The stream of events that a client gets. It holds the position behind the last event that was sent."""

    def __init__(self, manager: ProcessManager, query: GroupQuery, position: GroupPosition) -> None:
        self._manager = manager
        self._query = query
        self._position = position
        self._has_begun = False

    async def send_to(self, client: Client) -> None:
        """Send stored and new events, at the speed at which the client reads.

        Raises:
            FollowInterrupted: the daemon is stopping; the client reconnects with Last-Event-ID.
        """
        # While a client does not read, the position is all that is kept for it. It resumes as if it reconnected.
        while not await self._send_while_read(client):
            await client.drained()
        await client.send(sse.named_event("eof", f"{self._position}{EOF_SUFFIX}", {}))

    async def _send_while_read(self, client: Client) -> bool:
        """Send events until the client falls behind, and return whether the stream is over."""
        follow = self._manager.follow_group(self._query, self._position, heartbeat_s=HEARTBEAT_S)
        async with contextlib.aclosing(follow) as batches:
            async for items in batches:
                if not items:
                    await client.send(sse.KEEP_ALIVE)
                for item in items or ():
                    for events in await self._events(item):
                        if not await client.write(events):
                            return False
                del items
        return True

    async def _events(self, item: Item) -> Iterator[bytes]:
        """Return an iterator over the events of an item. The position moves with it."""
        if isinstance(item, Printed):
            return self._printed(item.process, item.chunks)
        if isinstance(item, Joined):
            return self._joined(item.processes)
        return iter([await self._left(item)])

    def _printed(self, process: Process, chunks: Sequence[Chunk]) -> Iterator[bytes]:
        handle = process.handle
        about: dict[str, Any] = {"process_id": process.spec.id, "name": process.spec.name}
        around = self._position.around(handle)
        event_bytes = _EVENT_BYTES + len(str(self._position))
        events: list[bytes] = []
        size = 0
        for chunk in chunks:
            seq = chunk.first_seq
            for block in sse.blocks(chunk.data, chunk.line_count, sse.FOLLOW_PIECE_BYTES, event_bytes):
                events.append(sse.group_events(chunk, block, seq, around, about))
                seq += count_lines(block)
                size += len(events[-1])
                if size >= sse.FOLLOW_PIECE_BYTES:
                    self._position = self._position.at(handle, seq - 1)
                    yield b"".join(events)
                    events, size = [], 0
            if chunk.gap:
                data = {**about, "seq": chunk.last_seq, **sse.gap_data(chunk)}
                events.append(sse.named_event("gap", str(self._position.at(handle, chunk.last_seq)), data))
        if events:
            self._position = self._position.at(handle, chunks[-1].last_seq)
            yield b"".join(events)

    def _joined(self, processes: Sequence[Process]) -> Iterator[bytes]:
        # The members of a stream that goes on for a client that fell behind are no news.
        is_new, self._has_begun = not self._has_begun, True
        for process in processes:
            if process.handle not in self._position.seqs:
                self._position, is_new = self._position.at(process.handle, 0), True
        if is_new:
            members = [
                {
                    "handle": process.handle,
                    "process_id": process.spec.id,
                    "name": process.spec.name,
                    "seq": self._position.seqs[process.handle],
                }
                for process in processes
            ]
            yield sse.named_event("joined", str(self._position), {"processes": members})

    async def _left(self, item: Left) -> bytes:
        self._position = self._position.without(item.handle)
        if item.process is not None:
            spec = item.process.spec
            with contextlib.suppress(NotFound):
                run = (await self._manager.get_when_readable(spec.id)).process.run
                data = {"process_id": spec.id, "name": spec.name, **run_status(run)}
                return sse.named_event("end", str(self._position), data)
        return sse.named_event("purged", str(self._position), {"handle": item.handle})

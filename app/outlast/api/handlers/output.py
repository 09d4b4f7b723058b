"""Handlers that read the stored output of a process: as JSON, as NDJSON, or as raw bytes."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.route import Call, ref_of
from outlast.api.schemas.output import ReadOptions
from outlast.api.streaming import sse
from outlast.api.streaming.lines import LineFilter
from outlast.api.streaming.response import send_or_fail
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import NotFound, OutputTrimmed
from outlast.model.output import Chunk, Stream, TrimGap, Trimmed, count_lines

JSON = "application/json"
NDJSON = "application/x-ndjson"
NDJSON_UTF_8 = f"{NDJSON}; charset=utf-8"
"""For clients that would guess another charset. JSON itself is always UTF-8."""
RAW = "application/octet-stream"
TRIMMED = "Outlast-Trimmed"
"""Header of an answer that has no room for a gap: how much output of the process was deleted because of a limit."""


def handler_for(stream: Stream | None) -> Call:
    """Return the handler that reads `stream`; None: both streams."""
    return partial(_read, stream)


async def _read(stream: Stream | None, request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/(stdout|stderr|output)."""
    reading: ReadOptions = given.query
    manager = request.app[app_keys.MANAGER]
    view = await manager.get(ref_of(request))
    line_filter = LineFilter(reading.grep, reading.limit)
    content_type = preferred(request.headers.get(hdrs.ACCEPT, ""), (JSON, NDJSON, RAW))
    is_exact = content_type == RAW and line_filter.passes_all and reading.where.tail is None
    where = replace(reading.where, stream=stream)
    chunks = manager.read_output(view.process, where, whole_lines=not is_exact)
    if content_type == NDJSON:
        return await send_or_fail(request, NDJSON_UTF_8, _as_events(chunks, line_filter))
    trimmed, chunks = await _without_gap(chunks)
    headers = {TRIMMED: f"lines={trimmed.lines},bytes={trimmed.bytes}"} if trimmed else {}
    if content_type == JSON:
        return await send_or_fail(request, JSON, _as_json(view.process.run.pid, chunks, line_filter), headers=headers)
    summary = view.process.output
    if is_exact and where == OutputQuery() and trimmed == summary.trimmed:
        body = _first_bytes(chunks, summary.bytes)
        return await send_or_fail(request, RAW, body, summary.bytes, headers=headers)
    return await send_or_fail(request, RAW, _as_bytes(chunks, line_filter), headers=headers)


async def _without_gap(chunks: AsyncGenerator[Chunk, None]) -> tuple[Trimmed | None, AsyncGenerator[Chunk, None]]:
    """Return what was deleted before the first of `chunks`, and the chunks behind that."""
    first = await anext(chunks, None)
    trimmed = first.trimmed if isinstance(first, TrimGap) else None
    return trimmed, _without_holes(None if trimmed else first, chunks)


async def _without_holes(first: Chunk | None, rest: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """Yield chunks.

    Raises:
        OutputTrimmed: output between two of them was deleted meanwhile.
    """
    async with contextlib.aclosing(rest):
        if first is not None:
            yield first
        async for chunk in rest:
            if isinstance(chunk, TrimGap):
                raise OutputTrimmed("output was deleted because of a limit while it was read: read it again")
            yield chunk


async def _passed_lines(chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter) -> AsyncGenerator[bytes, None]:
    """Yield the lines that pass the filter, several at a time. The last of them may lack its line break."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            passed = line_filter.filter(chunk.data)
            if passed:
                yield passed
            if line_filter.full:
                return


async def _as_json(
    pid: int, chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter
) -> AsyncGenerator[bytes, None]:
    yield b'{"pid":%d,"lines":[' % pid
    count = 0
    async with contextlib.aclosing(_passed_lines(chunks, line_filter)) as found:
        async for lines in found:
            for block in sse.blocks(lines, count_lines(lines)):
                texts = sse.json_lines(block)
                if not texts[-1]:
                    texts.pop()
                yield (b',"' if count else b'"') + b'","'.join(texts) + b'"'
                count += len(texts)
    yield b'],"line_count":%d}' % count


async def _as_events(chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk.gap and not line_filter.full:
                yield sse.gap_line(chunk)  # also with a filter: the gap may hide a match
            seq = chunk.first_seq
            for block in sse.blocks(chunk.data, chunk.line_count):
                ids = range(seq, seq + count_lines(block))
                seq = ids.stop
                passed, passed_ids = line_filter.filter_numbered(block, ids)
                if passed:
                    yield sse.encode(sse.NDJSON, chunk, passed, passed_ids)
            if line_filter.full:
                return


async def _first_bytes(chunks: AsyncGenerator[Chunk, None], size: int) -> AsyncGenerator[bytes, None]:
    """Yield the first `size` bytes: those that were stored when the size was read."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield chunk.data[:size]
            size -= len(chunk.data)
            if size <= 0:
                return
    if size > 0:
        raise NotFound("the output is shorter than its process said: the process was purged meanwhile")


async def _as_bytes(chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter) -> AsyncGenerator[bytes, None]:
    if line_filter.passes_all:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk.data
        return
    async with contextlib.aclosing(_passed_lines(chunks, line_filter)) as found:
        async for lines in found:
            yield lines

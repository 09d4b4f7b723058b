"""Handlers that read the stored output of a process: as JSON, as NDJSON, or as raw bytes."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.route import Call, json_response, ref_of
from outlast.api.schemas.output import ReadOptions
from outlast.api.streaming import sse
from outlast.api.streaming.lines import LineFilter
from outlast.api.streaming.response import send_or_fail
from outlast.core.query.matcher import Matcher
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import NotFound, OutputTrimmed
from outlast.model.histogram import HistogramQuery
from outlast.model.output import Chunk, Stream, TrimGap, Trimmed, count_lines

T = TypeVar("T")

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


async def histogram(request: web.Request, given: RequestInput) -> web.Response:
    """GET /api/v1/processes/{ref}/output/histogram."""
    query: HistogramQuery = given.query
    manager = request.app[app_keys.MANAGER]
    handle = (await manager.get(ref_of(request))).process.handle
    found = await manager.queries.histogram(replace(query, handle=handle))
    begins = count(found.from_ms, found.bucket_ms)
    buckets = list(zip(begins, found.lines, found.stderr_lines, strict=False))
    return json_response({"bucket_ms": found.bucket_ms, "buckets": buckets}, headers=_trimmed_header(found.trimmed))


async def _read(stream: Stream | None, request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/(stdout|stderr|output)."""
    reading: ReadOptions = given.query
    manager = request.app[app_keys.MANAGER]
    view = await manager.get(ref_of(request))
    line_filter = LineFilter(reading.matcher, reading.limit)
    run = manager.queries.run_in_thread if reading.is_slow else _run_here
    content_type = preferred(request.headers.get(hdrs.ACCEPT, ""), (JSON, NDJSON, RAW))
    is_exact = content_type == RAW and line_filter.passes_all and reading.where.tail is None and reading.before is None
    where = replace(reading.where, stream=stream)
    if reading.before is None:
        chunks = manager.read_output(view.process, where, whole_lines=not is_exact)
    else:
        select = None if reading.matcher is None else partial(_numbers, reading.matcher, run)
        chunks = manager.queries.read_before(view.process.handle, where, reading.before, reading.limit, select)
    if content_type == NDJSON:
        return await send_or_fail(request, NDJSON_UTF_8, _as_events(chunks, line_filter, run))
    trimmed, chunks = await _without_gap(chunks)
    headers = _trimmed_header(trimmed)
    if content_type == JSON:
        body = _as_json(view.process.run.pid, chunks, line_filter, run)
        return await send_or_fail(request, JSON, body, headers=headers)
    summary = view.process.output
    if is_exact and where == OutputQuery() and trimmed == summary.trimmed:
        body = _first_bytes(chunks, summary.bytes)
        return await send_or_fail(request, RAW, body, summary.bytes, headers=headers)
    return await send_or_fail(request, RAW, _as_bytes(chunks, line_filter, run), headers=headers)


def _trimmed_header(trimmed: Trimmed | None) -> dict[str, str]:
    return {TRIMMED: f"lines={trimmed.lines},bytes={trimmed.bytes}"} if trimmed else {}


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


class _Run(Protocol):
    """Function that runs `work`, which looks for lines that match, here or on a thread, and returns its result."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


async def _run_here(work: Callable[[], T]) -> T:
    return work()


async def _numbers(matcher: Matcher, run: _Run, chunk: Chunk) -> Sequence[int]:
    """Return the numbers of the lines of a chunk that match."""
    line_filter, numbers = LineFilter(matcher, None), range(chunk.first_seq, chunk.last_seq + 1)
    return (await run(lambda: line_filter.filter_numbered(chunk.data, numbers)))[1] if chunk.data else ()


async def _passed_lines(
    chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter, run: _Run
) -> AsyncGenerator[bytes, None]:
    """Yield the lines that pass the filter, several at a time. The last of them may lack its line break."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            passed = await run(partial(line_filter.filter, chunk.data))
            if passed:
                yield passed
            if line_filter.full:
                return


async def _as_json(
    pid: int, chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter, run: _Run
) -> AsyncGenerator[bytes, None]:
    yield b'{"pid":%d,"lines":[' % pid
    line_count = 0
    async with contextlib.aclosing(_passed_lines(chunks, line_filter, run)) as found:
        async for lines in found:
            for block in sse.blocks(lines, count_lines(lines)):
                texts = sse.json_lines(block)
                if not texts[-1]:
                    texts.pop()
                yield (b',"' if line_count else b'"') + b'","'.join(texts) + b'"'
                line_count += len(texts)
    yield b'],"line_count":%d}' % line_count


async def _as_events(
    chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter, run: _Run
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk.gap and not line_filter.full:
                yield sse.gap_line(chunk)  # also with a filter: the gap may hide a match
            seq = chunk.first_seq
            for block in sse.blocks(chunk.data, chunk.line_count):
                ids = range(seq, seq + count_lines(block))
                seq = ids.stop
                events = await run(partial(_block_events, line_filter, chunk, block, ids))
                if events:
                    yield events
            if line_filter.full:
                return


def _block_events(line_filter: LineFilter, chunk: Chunk, block: bytes, ids: Sequence[int]) -> bytes:
    """Return the lines of a block, which is a part of `chunk`, that pass the filter, as events."""
    passed, passed_ids = line_filter.filter_numbered(block, ids)
    if not passed:
        return b""
    if line_filter.matcher is None:
        return sse.encode(sse.NDJSON, chunk, passed, passed_ids)
    return sse.marked_lines(chunk, passed, passed_ids, line_filter.matcher)


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


async def _as_bytes(
    chunks: AsyncGenerator[Chunk, None], line_filter: LineFilter, run: _Run
) -> AsyncGenerator[bytes, None]:
    if line_filter.passes_all:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk.data
        return
    async with contextlib.aclosing(_passed_lines(chunks, line_filter, run)) as found:
        async for lines in found:
            yield lines

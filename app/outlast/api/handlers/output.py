"""Reading a process's stored output: as JSON, as one event a line, or as the bytes themselves."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.api.route import Call, ref_of
from outlast.api.schemas.processes import ReadOptions
from outlast.api.streaming import sse
from outlast.api.streaming.lines import LineFilter, LineJoiner
from outlast.api.streaming.response import send_or_fail
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import NotFound
from outlast.model.output import Chunk, Stream, count_lines

JSON = "application/json"
NDJSON = "application/x-ndjson"
RAW = "application/octet-stream"


def of(stream: Stream | None) -> Call:
    """Make the call that reads `stream`, or both."""
    return partial(_read, stream)


async def _read(stream: Stream | None, request: web.Request, given: RequestInput) -> web.StreamResponse:
    """GET /api/v1/processes/{ref}/(stdout|stderr|output)."""
    reading: ReadOptions = given.query
    manager = request.app[app_keys.MANAGER]
    view = await manager.get(ref_of(request))
    chunks = manager.read_output(view.process, replace(reading.where, stream=stream))
    sieve = LineFilter(reading.grep, reading.limit)
    content_type = preferred(request.headers.get(hdrs.ACCEPT, ""), (JSON, NDJSON, RAW))
    if content_type == RAW and sieve.passes_all and stream is None and reading.where == OutputQuery():
        size = view.process.output.bytes
        return await send_or_fail(request, RAW, _first_bytes(chunks, size), size)
    pieces = {
        JSON: lambda: _as_json(view.process.run.pid, chunks, sieve),
        NDJSON: lambda: _as_events(chunks, sieve),
        RAW: lambda: _as_bytes(chunks, sieve),
    }[content_type]()
    return await send_or_fail(request, content_type, pieces)


async def _whole_lines(chunks: AsyncGenerator[Chunk, None], sieve: LineFilter) -> AsyncGenerator[bytes, None]:
    """Yield the lines that pass, parts joined; each time a few lines, the last perhaps without its end."""
    joiner = LineJoiner()
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for lines in joiner.add(chunk):
                passed = sieve.filter(lines)
                if passed:
                    yield passed
            if sieve.full:
                return
    for lines in joiner.rest():
        passed = sieve.filter(lines)
        if passed:
            yield passed


async def _as_json(pid: int, chunks: AsyncGenerator[Chunk, None], sieve: LineFilter) -> AsyncGenerator[bytes, None]:
    yield b'{"pid":%d,"lines":[' % pid
    count = 0
    async with contextlib.aclosing(_whole_lines(chunks, sieve)) as found:
        async for lines in found:
            for block in sse.blocks(lines, count_lines(lines)):
                texts = sse.json_lines(block)
                if not texts[-1]:
                    texts.pop()
                yield (b',"' if count else b'"') + b'","'.join(texts) + b'"'
                count += len(texts)
    yield b'],"line_count":%d}' % count


async def _as_events(chunks: AsyncGenerator[Chunk, None], sieve: LineFilter) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if chunk.gap and not sieve.full:
                yield sse.gap_line(chunk)  # whatever is searched for: it may have been here
            seq = chunk.first_seq
            for block in sse.blocks(chunk.data, chunk.line_count):
                ids = range(seq, seq + count_lines(block))
                seq = ids.stop
                passed, passed_ids = sieve.filter_numbered(block, ids)
                if passed:
                    yield sse.encode(sse.NDJSON, chunk, passed, passed_ids)
            if sieve.full:
                return


async def _first_bytes(chunks: AsyncGenerator[Chunk, None], size: int) -> AsyncGenerator[bytes, None]:
    """Yield so many bytes: those that were stored when the process was looked at.

    Raises:
        NotFound: the process has been purged meanwhile.
    """
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield chunk.data[:size]
            size -= len(chunk.data)
            if size <= 0:
                return
    if size > 0:
        raise NotFound("the process has been purged while its output was read")


async def _as_bytes(chunks: AsyncGenerator[Chunk, None], sieve: LineFilter) -> AsyncGenerator[bytes, None]:
    if sieve.passes_all:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk.data
        return
    async with contextlib.aclosing(_whole_lines(chunks, sieve)) as found:
        async for lines in found:
            yield lines

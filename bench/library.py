"""Speed of following stored output with the Python client, beside other readers of Server-Sent Events in Python."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import httpx_sse
import orjson

from bench import writers
from bench.client import Client
from bench.measure import OURS, Figures, Measure, Row
from bench.serving import Outlast, outlast
from outlast import AsyncOutlast
from outlast import Outlast as Library
from outlast.client import Line

_ASYNC = "outlast, asyncio"
_SPLIT = "bare split"
_HTTPX_SSE = "httpx-sse"
_END = b"\n\n"

Read = Callable[[Outlast, str], int]
"""A reader of the output of the process with an id; returns the number of lines."""


def run_reader(folder: Path, lines: int, read: Read) -> Figures:
    """Let a reader follow the stored output of a process.

    Raises:
        RuntimeError: lines are missing.
    """
    with outlast(folder / "state") as server:
        process = server.run(writers.flood(lines))
        stored = server.stored_lines(process)
        began, cpu_s = time.monotonic(), time.process_time()
        count = read(server, process["id"])
        seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        if count != stored:
            raise RuntimeError(f"{count} of {stored} lines came")
        return {"lines/s": lines / seconds, "lines per CPU s": lines / cpu_s, "CPU us/line": cpu_s / lines * 1e6}


def _library(server: Outlast, process_id: str) -> int:
    with Library(server.url, server.token) as client:
        return sum(isinstance(item, Line) for item in client.process(process_id).follow())


def _async_library(server: Outlast, process_id: str) -> int:
    async def count() -> int:
        async with AsyncOutlast(server.url, server.token) as client:
            process = await client.process(process_id)
            return len([None async for item in process.follow() if isinstance(item, Line)])

    return asyncio.run(count())


def _split(server: Outlast, process_id: str) -> int:
    """Split as few bytes as a reader of one's own may: it knows the form of the events, and resumes nothing."""
    with server.connected() as client:
        return sum("line" in data for data in _events(client, process_id))


def _events(client: Client, process_id: str) -> Iterator[dict[str, object]]:
    rest = b""
    for data in client.stream(f"/processes/{process_id}/output/follow"):
        *blocks, rest = (rest + data).split(_END)
        for block in blocks:
            yield orjson.loads(block.partition(b"data: ")[2])


def _httpx_sse(server: Outlast, process_id: str) -> int:
    url = f"{server.url}/api/v1/processes/{process_id}/output/follow"
    with (
        httpx.Client(headers=server.headers, timeout=60.0) as client,
        httpx_sse.connect_sse(client, "GET", url) as source,
    ):
        return sum("line" in orjson.loads(event.data) for event in source.iter_sse())


MEASURE = Measure(
    name="library",
    title=f"{{size}} stored lines of {writers.LINE_BYTES} bytes, followed from the first line to `eof` in Python",
    contestants={
        OURS: partial(run_reader, read=_library),
        _ASYNC: partial(run_reader, read=_async_library),
        _SPLIT: partial(run_reader, read=_split),
        _HTTPX_SSE: partial(run_reader, read=_httpx_sse),
    },
    rows=(
        Row(figure="lines/s", yardstick=None),
        Row(figure="lines per CPU s", yardstick=None, at_least=300_000),
        Row(figure="CPU us/line", yardstick=_HTTPX_SSE),
        Row(figure="CPU us/line", yardstick=_SPLIT),
        Row(figure="lines per CPU s", ours=_ASYNC, yardstick=None, at_least=300_000),
        Row(figure="CPU us/line", ours=_ASYNC, yardstick=_HTTPX_SSE),
    ),
    size=1_000_000,
    smoke_size=20_000,
    lacks={
        _SPLIT: "objects with types, resuming, numbers that ascend, errors",
        _HTTPX_SSE: "objects with types, resuming, numbers that ascend, errors",
    },
)

import json
import re
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.api.negotiation import preferred
from outlast.api.streaming.lines import LineFilter, LineJoiner
from outlast.core.query.matcher import Text
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import StorageUnavailable
from outlast.model.output import Chunk, Stream, split_lines
from outlast.testing.storage.model import whole_lines
from outlast.testing.storage.samples import Output

from .chunks import CHUNKS, DATA, chunk, gap, numbered
from .server import BEARER, TOKEN, Server
from .stub import StubManager

OFFERS = ("application/json", "application/x-ndjson", "application/octet-stream")
NDJSON = {**BEARER, "Accept": "application/x-ndjson"}
RAW = {**BEARER, "Accept": "application/octet-stream"}


def split(chunks: list[Chunk]) -> list[bytes]:
    return [line.removesuffix(b"\n") for it in chunks for line in it.lines()]


PARTS = st.lists(st.tuples(st.none() | DATA, st.sampled_from(Stream), st.booleans()), max_size=8)


@given(parts=PARTS)
def test_the_parts_of_each_line_are_joined(parts: list[tuple[bytes | None, Stream, bool]]) -> None:
    """As the stream of a run does it: with a joiner for each stream."""
    output = Output(1)
    joiners = {stream: LineJoiner() for stream in Stream}
    found: dict[Stream, list[bytes]] = {stream: [] for stream in Stream}
    chunks = [
        output.gap(1, stream) if data is None else output.chunk(data, stream, continues=continues)
        for data, stream, continues in parts
    ]
    for it in chunks:
        if not it.continues:
            found[it.stream].append(joiners[it.stream].finish())
        found[it.stream].append(joiners[it.stream].join(it))
    for stream in Stream:
        found[stream].append(joiners[stream].finish())
        expected = [line.text() for line in whole_lines(chunks) if line.stream is stream]
        lines = [line for blocks in found[stream] for line in split_lines(blocks)]
        assert lines == [line for line in expected if line is not None]


def test_many_small_parts_cost_no_more_than_one() -> None:
    joiner = LineJoiner()
    for seq in range(1, 200_001):
        assert joiner.join(chunk(b".", first_seq=seq)) == b""
    assert joiner.finish() == b"." * 200_000
    assert joiner.finish() == b""


@given(
    lines=st.lists(st.sampled_from([b"a", b"ab", b"", b"b\r", b"\xff"]), max_size=20),
    end=st.booleans(),
    needle=st.sampled_from([None, b"a", b"b", b"\xff"]),
    limit=st.none() | st.integers(0, 25),
    cut=st.integers(0, 20),
)
def test_a_line_filter_returns_matching_lines_up_to_its_limit(
    lines: list[bytes],
    end: bool,
    needle: bytes | None,
    limit: int | None,
    cut: int,
) -> None:
    whole = [line + b"\n" for line in lines]
    if whole and not end and lines[-1]:
        whole[-1] = lines[-1]
    wanted = [(line, n) for n, line in enumerate(whole) if needle is None or needle in line][:limit]
    matcher = None if needle is None else Text(needle)
    numbered_sieve, sieve = LineFilter(matcher, limit), LineFilter(matcher, limit)
    head, tail = whole[:cut], whole[cut:]
    got = [
        numbered_sieve.filter_numbered(b"".join(part), range(o, o + len(part))) for part, o in ((head, 0), (tail, cut))
    ]
    assert b"".join(data for data, _ in got) == b"".join(line for line, _ in wanted)
    assert [n for _, ids in got for n in ids] == [n for _, n in wanted]
    assert sieve.filter(b"".join(head)) + sieve.filter(b"".join(tail)) == b"".join(line for line, _ in wanted)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(chunks=CHUNKS, grep=st.sampled_from(["", "a", '"', "\\", "é", "p"]), limit=st.none() | st.integers(0, 5))
async def test_the_three_forms_hold_the_same_lines(
    server: Server, manager: StubManager, chunks: list[Chunk], grep: str, limit: int | None
) -> None:
    manager.chunks = chunks
    manager.stored_bytes = sum(len(it.data) for it in chunks)
    params: dict[str, Any] = {"grep": grep} | ({} if limit is None else {"limit": limit})
    path = "/api/v1/processes/42/output"
    wanted = [line for line in split(chunks) if grep.encode() in line][:limit]
    answer = await server.ask("GET", path, params=params)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {
        "pid": 42,
        "lines": [line.decode("utf-8", "replace") for line in wanted],
        "line_count": len(wanted),
    }
    answer = await server.ask("GET", path, params=params, headers=NDJSON)
    assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    events: list[dict[str, Any]] = []
    left = limit
    for it in chunks:
        about = {"timestamp": it.ts_ms, "stream": it.stream.word}
        if it.gap and left != 0:
            n = it.first_seq
            events.append({"id": n, "gap": {"from": n, "to": n, "reason": "store_replaced"}, **about})
        for n, line in enumerate(it.lines(), it.first_seq):
            if grep.encode() in line and left != 0:
                text = line.decode("utf-8", "replace")
                spans = {"spans": [list(found.span()) for found in re.finditer(re.escape(grep), text)]} if grep else {}
                events.append({"id": n, "line": text, **about, **spans})
                left = None if left is None else left - 1
    assert [json.loads(line) for line in answer.body.split(b"\n")[:-1]] == events
    answer = await server.ask("GET", path, params=params, headers=RAW)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    if not grep and limit is None:
        assert answer.body == b"".join(it.data for it in chunks)
    else:
        assert answer.body.replace(b"\n", b"") == b"".join(wanted)


async def test_a_search_shows_gaps(server: Server, manager: StubManager) -> None:
    manager.chunks = [chunk(b"a\nb\n"), gap(3), chunk(b"b\na\n", first_seq=4)]
    answer = await server.ask("GET", "/api/v1/processes/42/stdout?grep=a", headers=NDJSON)
    assert [json.loads(line)["id"] for line in answer.body.splitlines()] == [1, 3, 5]
    answer = await server.ask("GET", "/api/v1/processes/42/stdout?grep=a&limit=1", headers=NDJSON)
    assert [json.loads(line)["id"] for line in answer.body.splitlines()] == [1]
    manager.chunks = [gap(1)]
    answer = await server.ask("GET", "/api/v1/processes/42/stdout?limit=0", headers=NDJSON)
    assert answer.body == b""


@pytest.mark.parametrize(("word", "stream"), [("stdout", Stream.STDOUT), ("stderr", Stream.STDERR), ("output", None)])
async def test_the_range_is_passed_to_the_manager(
    server: Server, manager: StubManager, word: str, stream: Stream | None
) -> None:
    await server.ask(
        "GET", f"/api/v1/processes/some%20name/{word}?after=1&tail=2&since=1710000000003&until=1710000000004"
    )
    assert manager.calls == [
        ("get", "some name"),
        (
            "output",
            1,
            OutputQuery(stream=stream, after=1, tail=2, since_ms=1710000000003, until_ms=1710000000004),
            True,
        ),
    ]


@pytest.mark.parametrize(
    ("query", "whole_lines"),
    [("", False), ("?after=1&since=1710000000000", False), ("?tail=1", True), ("?limit=9", True), ("?grep=a", True)],
)
async def test_only_exact_bytes_are_read_as_they_were_stored(
    server: Server, manager: StubManager, query: str, whole_lines: bool
) -> None:
    await server.ask("GET", f"/api/v1/processes/42/stdout{query}", headers=RAW)
    await server.ask("GET", f"/api/v1/processes/42/stdout{query}", headers=NDJSON)
    assert [call[-1] for call in manager.calls if call[0] == "output"] == [whole_lines, True]


async def test_much_output_is_streamed(server: Server, manager: StubManager) -> None:
    manager.chunks = numbered([(b"0123456789\n" * 20_000, Stream.STDOUT)] * 20)
    answer = await server.ask("GET", "/api/v1/processes/42/stdout")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.json == {"pid": 42, "lines": ["0123456789"] * 400_000, "line_count": 400_000}
    answer = await server.ask("GET", "/api/v1/processes/42/stdout", headers=RAW)
    assert answer.body == b"".join(it.data for it in manager.chunks)
    answer = await server.ask("GET", "/api/v1/processes/42/stdout", headers=NDJSON)
    assert answer.body.count(b"\n") == 400_000


async def test_a_failure_before_the_answer_is_an_error(server: Server, manager: StubManager) -> None:
    manager.chunks = [chunk(b"line\n")]
    manager.fail_after_chunks = StorageUnavailable("the disk is full")
    answer = await server.ask("GET", "/api/v1/processes/42/stdout")
    assert (answer.status, answer.json["error"]) == (503, "the disk is full")


@pytest.mark.parametrize("headers", [BEARER, NDJSON, RAW])
async def test_a_failure_within_the_answer_breaks_the_connection(
    server: Server, manager: StubManager, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    manager.chunks = numbered([(b"0123456789\n" * 20_000, Stream.STDOUT)] * 3)
    manager.fail_after_chunks = StorageUnavailable("the disk is full")
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.ask("GET", "/api/v1/processes/42/stdout", headers=headers)
    (record,) = caplog.records
    assert record.getMessage() == "GET /api/v1/processes/42/stdout failed after its response had begun"
    assert TOKEN not in caplog.text


async def test_the_content_length_is_exact(server: Server, manager: StubManager) -> None:
    """The size holds when more output has come since, and when there is less."""
    manager.chunks = numbered([(b"0123456789\n" * 20_000, Stream.STDOUT)] * 3)
    everything = b"".join(it.data for it in manager.chunks)
    for manager.stored_bytes in (len(everything), len(everything) - 7, 250_000, 220_000, 10):
        answer = await server.ask("GET", "/api/v1/processes/42/output", headers=RAW)
        assert answer.headers["Content-Length"] == str(manager.stored_bytes)
        assert answer.body == everything[: manager.stored_bytes]
    for query in ("?after=1", "?tail=9", "?limit=9", "?grep=0", "?since=1710000000000"):
        answer = await server.ask("GET", f"/api/v1/processes/42/output{query}", headers=RAW)
        assert int(answer.headers.get("Content-Length", len(answer.body))) == len(answer.body)


async def test_a_purge_within_the_bytes_breaks_the_connection(server: Server, manager: StubManager) -> None:
    manager.stored_bytes = 1_000_000
    manager.chunks = [chunk(b"0123456789\n")]
    answer = await server.ask("GET", "/api/v1/processes/42/output", headers=RAW)
    assert answer.status == 404
    manager.chunks = numbered([(b"0123456789\n" * 20_000, Stream.STDOUT)] * 3)
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.ask("GET", "/api/v1/processes/42/output", headers=RAW)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", 0),
        ("*/*", 0),
        ("application/*", 0),
        ("text/html", 0),
        ("application/x-ndjson", 1),
        ("Application/X-NDJSON", 1),
        ("application/octet-stream", 2),
        ("application/x-ndjson, */*", 1),
        ("application/x-ndjson;q=0.5, application/json", 0),
        ("application/json;q=0.5, application/octet-stream;q=0.9", 2),
        ("application/json;q=0, */*;q=0.1", 1),
        ("application/x-ndjson; charset=utf-8; q=1", 1),
        ("text/html, application/x-ndjson;q=oops", 0),
        (",,;q=1,", 0),
    ],
)
def test_the_accept_header_chooses_the_form(accept: str, chosen: int) -> None:
    assert preferred(accept, OFFERS) == OFFERS[chosen]

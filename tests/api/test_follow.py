import asyncio

import aiohttp
import pytest

from harness.http_client import parse_events
from outlast.api.handlers.follow import HEARTBEAT_S
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.errors import StorageUnavailable
from outlast.model.output import Stream

from .chunks import numbered
from .server import BEARER, DEADLINE_S, TOKEN, Server, serving, until
from .stub import StubManager

FOLLOW = "/api/v1/processes/42/output/follow"
REQUEST = f"GET {FOLLOW} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
BODY = b'{"command":"true"}'
START = (
    b"POST /api/v1/processes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    + f"Content-Length: {len(BODY)}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    + BODY
)
MUCH = numbered([(b"0123456789\n" * 90_000, Stream.STDOUT)] * 30)


async def test_a_run_has_its_last_lines_although_the_store_cannot_be_read_for_a_while(
    server: Server, manager: StubManager
) -> None:
    manager.chunks, manager.is_ended, manager.unreadable = numbered([(b"last\n", Stream.STDOUT)]), True, 3
    answer = await server.ask("POST", "/api/v1/processes/run", json={"command": "true"})
    _, *events = parse_events(answer.body)[0]
    assert [event.data.get("line", event.data.get("exit_code")) for event in events] == ["last", 3]


async def test_an_ended_process_is_followed_to_eof(server: Server, manager: StubManager) -> None:
    manager.chunks = numbered([(b"one\ntwo", Stream.STDOUT), (b"!\n", Stream.STDERR)])
    manager.is_ended = True
    answer = await server.ask("GET", FOLLOW)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"
    events, _ = parse_events(answer.body)
    assert [(event.id, event.data["line"]) for event in events[:-1]] == [
        (1, "one\n"),
        (2, "two"),
        (3, "!\n"),
    ]
    how = {"status": "exited", "reason": "exited", "exit_code": 3, "signal": None, "oom_killed": False}
    assert (events[-1].kind, events[-1].id, events[-1].data) == ("eof", None, how)


@pytest.mark.parametrize(("word", "stream"), [("stdout", Stream.STDOUT), ("stderr", Stream.STDERR), ("output", None)])
@pytest.mark.parametrize(
    ("query", "last_event_id", "after", "tail"),
    [
        ("", None, 0, None),
        ("&after=5&tail=3", None, 5, 3),
        ("&after=5", "", 5, None),
        ("&after=5", "9", 9, None),
        ("&after=9", "5", 9, None),
        ("&tail=3", "5", 5, None),
    ],
)
async def test_a_stream_starts_at_the_requested_position(
    server: Server,
    manager: StubManager,
    word: str,
    stream: Stream | None,
    query: str,
    last_event_id: str | None,
    after: int,
    tail: int | None,
) -> None:
    headers = BEARER if last_event_id is None else {**BEARER, "Last-Event-ID": last_event_id}
    await server.ask(
        "GET", f"/api/v1/processes/42/{word}/follow?since=1710000000007&until=1710000000008{query}", headers=headers
    )
    expected = OutputQuery(stream=stream, after=after, tail=tail, since_ms=1710000000007, until_ms=1710000000008)
    assert manager.calls[1] == ("follow", 1, expected, HEARTBEAT_S)


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "9" * 30, "1, 2"])
async def test_a_malformed_position_is_an_error_before_the_stream(
    server: Server, manager: StubManager, wrong: str
) -> None:
    for query, headers in (({"after": wrong}, {}), ({}, {"Last-Event-ID": wrong})):
        answer = await server.ask("GET", FOLLOW, params=query, headers={**BEARER, **headers})
        assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
        assert "must be an integer" in answer.json["error"]
    assert manager.calls == []


async def read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    return await asyncio.wait_for(reader.readuntil(end), 10)


async def test_a_stream_is_answered_before_any_output(server: Server, manager: StubManager) -> None:
    manager.follow_forever = True
    reader, _ = await server.connect(REQUEST)
    assert (await read_until(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert b": keep-alive\n\n" in await read_until(reader, b"\n\n")


async def test_a_follower_that_hangs_up_is_gone_at_once(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.follow_forever = True
    connections = [await server.connect(REQUEST) for _ in range(20)]
    await until(lambda: manager.followers == 20)
    for _, writer in connections:
        writer.close()
    await until(lambda: manager.followers == 0)
    assert caplog.records == []


async def test_a_follower_may_hang_up_during_a_write(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.chunks = MUCH
    reader, writer = await server.connect(REQUEST)
    await read_until(reader, b"\n\n")
    writer.transport.abort()
    await until(lambda: not server.connections)
    await until(lambda: manager.followers == 0)
    assert (await server.ask("GET", "/api/v1/health")).status == 200
    assert caplog.records == []


async def test_an_event_source_stops_at_the_end(server: Server, manager: StubManager) -> None:
    """An EventSource reconnects with the last id, and only 204 stops it. After a mere break it gets `eof`."""
    manager.chunks = numbered([(b"one\ntwo\n", Stream.STDOUT)])

    async def reconnect(last_id: str) -> tuple[int, bytes]:
        answer = await server.ask("GET", FOLLOW, headers={**BEARER, "Last-Event-ID": last_id})
        return answer.status, answer.body

    end = (await server.ask("GET", FOLLOW)).body.partition(b"two")[2].partition(b"\n\n")[2]
    assert end.startswith(b"id: 2-eof\nevent: eof\ndata: {")
    assert await reconnect("2") == (200, end)
    assert await reconnect("2-eof") == (204, b"")
    assert (await reconnect("1-eof"))[1].startswith(b"id: 2\n")  # it was restarted since
    manager.chunks = []
    assert await reconnect("0-eof") == (204, b"")
    assert (await reconnect("x-eof"))[0] == 400


async def test_a_follower_that_does_not_read_delays_no_other(server: Server, manager: StubManager) -> None:
    manager.chunks = MUCH
    reader, _ = await server.connect(REQUEST)
    await read_until(reader, b"\n\n")
    other = await server.ask("GET", FOLLOW)
    assert other.body.count(b"\nid: ") == 2_700_000  # less the first, plus that of `eof`
    assert server.connections == 2
    assert manager.followers == 0  # nothing is read for it meanwhile
    events = 1
    end = b"\n\n"
    while not end.endswith(b"\r\n0\r\n\r\n"):
        piece = await asyncio.wait_for(reader.read(1 << 20), 10)
        assert piece
        events += (end[-4:] + piece).count(b"\nid: ")
        end = (end + piece)[-9:]
    assert events == 2_700_001


async def test_a_follower_that_does_not_read_is_cut_off_at_the_daemons_end(
    server: Server, manager: StubManager
) -> None:
    manager.chunks = MUCH
    reader, _ = await server.connect(REQUEST)
    await read_until(reader, b"\n\n")
    await server.http.close()
    assert manager.followers == 0


async def test_a_disconnect_is_not_logged(manager: StubManager, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(manager) as server:
        manager.chunks = MUCH
        reader, follower = await server.connect(REQUEST)
        await read_until(reader, b"\n\n")
        follower.transport.abort()
        await until(lambda: not server.connections)
        _, stdin = await server.connect(
            b"POST /api/v1/processes/42/stdin HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            + f"Authorization: Bearer {TOKEN}\r\n\r\nhello".encode()
        )
        await until(lambda: manager.stdin)
        stdin.transport.abort()
        await until(lambda: not server.connections)
        assert (await server.ask("GET", "/api/v1/health")).status == 200
    assert caplog.records == []


async def test_a_disconnect_before_the_answer_is_not_logged(
    manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.wait_in_get = asyncio.Event()
    async with serving(manager) as server:
        _, follower = await server.connect(REQUEST)
        await until(lambda: manager.calls)
        follower.transport.abort()
        await server.ask("GET", "/api/v1/health")  # it comes behind the hanging up
        manager.wait_in_get.set()
        assert (await server.ask("GET", "/api/v1/health")).status == 200
    assert caplog.records == []


async def test_the_daemon_ends_after_a_change_under_way(server: Server, manager: StubManager) -> None:
    manager.wait_in_start = asyncio.Event()
    _, writer = await server.connect(START)
    await until(lambda: manager.calls)
    writer.close()
    await writer.wait_closed()
    end = asyncio.create_task(server.http.close())
    await until(lambda: manager.interrupted)
    manager.wait_in_start.set()
    await end
    assert ("started",) in manager.calls


async def test_a_failure_within_a_stream_breaks_the_connection(
    server: Server, manager: StubManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.chunks = numbered([(b"one\n", Stream.STDOUT)])
    manager.fail_after_chunks = StorageUnavailable("the disk is full")
    with pytest.raises(aiohttp.ClientPayloadError):
        await server.ask("GET", FOLLOW)
    (record,) = caplog.records
    assert record.getMessage() == f"GET {FOLLOW} failed after its response had begun"


async def test_a_change_is_completed_when_its_caller_hangs_up(server: Server, manager: StubManager) -> None:
    manager.wait_in_start = asyncio.Event()
    _, writer = await server.connect(START)
    await until(lambda: manager.calls)
    writer.close()
    await writer.wait_closed()
    assert (await server.ask("GET", "/api/v1/health")).status == 200
    assert ("started",) not in manager.calls
    manager.wait_in_start.set()
    await until(lambda: ("started",) in manager.calls)


async def test_a_stream_breaks_when_its_client_is_closed(server: Server, manager: StubManager) -> None:
    """The client of these tests: a test that waits for such a reader must not wait for ever."""
    manager.chunks, manager.follow_forever = numbered([(b"one\n", Stream.STDOUT)]), True
    has_begun = asyncio.Event()

    async def read() -> None:
        async for _ in server.client.follow(FOLLOW, headers=BEARER):
            has_begun.set()

    reading = asyncio.create_task(read())
    await has_begun.wait()
    await server.client.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asyncio.wait_for(reading, DEADLINE_S)

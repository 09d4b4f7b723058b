"""GET /api/v1/output/follow: the output of several processes in one stream, over ends, restarts and kills."""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from harness.http_client import BROKEN, Event, HttpClient, parse_events
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

PATH = "/output/follow"
MOST_BYTES = 32 << 20
PRINTER = "n={}; for i in $(seq 1 $n); do echo $0 $i; done"


async def connect(daemon: Daemon, query: str, seen: str = "") -> AsyncGenerator[Event, None]:
    headers = {"Last-Event-ID": seen} if seen else {}
    async with (
        HttpClient(daemon.url, daemon.token) as client,  # the daemon's own hangs up when it is killed
        contextlib.aclosing(client.follow(f"{PATH}?{query}", headers=headers)) as events,
    ):
        async for event in events:
            yield event


async def take(events: AsyncGenerator[Event, None], kind: str, count: int = 1) -> list[Event]:
    """Read up to the `count`-th event of a kind."""
    found: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        async for event in events:
            found.append(event)
            count -= event.kind == kind
            if not count:
                break
    return found


def lines_of(events: list[Event]) -> dict[str, list[tuple[int, str]]]:
    """Return the lines of each process, by name or id, with their numbers."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for event in events:
        if event.kind == "output":
            found[event.data["name"] or event.data["process_id"]].append((event.data["seq"], event.data["line"]))
    return found


def refs(*processes: dict[str, Any]) -> str:
    return "&".join(f"process={quote(process['id'])}" for process in processes)


async def test_the_history_of_several_processes_is_one_stream(daemon: Daemon) -> None:
    first, second = [await daemon.sh(PRINTER.format(n), tags={"team": "a"}) for n in (3, 2)]
    for process in (first, second):
        await daemon.ended(process)
    events = await take(connect(daemon, refs(second, first)), "eof")
    assert events[0].kind == "joined"
    assert events[0].data["processes"] == [
        {"handle": it["handle"], "process_id": it["id"], "name": None, "seq": 0} for it in (first, second)
    ]
    assert lines_of(events) == {
        it["id"]: [(i, f"sh {i}\n") for i in range(1, count + 1)] for it, count in ((first, 3), (second, 2))
    }
    a, b = first["handle"], second["handle"]
    assert [event.id_text for event in events if event.kind == "output"] == [
        f"{a}:1,{b}:0",
        f"{a}:2,{b}:0",
        f"{a}:3,{b}:0",
        f"{b}:1",  # the first process has left the stream
        f"{b}:2",
    ]
    ends = [event.data for event in events if event.kind == "end"]
    assert {(end["process_id"], end["exit_code"], end["reason"]) for end in ends} == {
        (it["id"], 0, "exited") for it in (first, second)
    }
    assert events[-1].id_text == f"{b}-eof"
    answer = await daemon.client.request("GET", f"{PATH}?{refs(first, second)}", headers={"Last-Event-ID": f"{b}-eof"})
    assert answer.status == 204


async def test_each_event_resumes_behind_itself(daemon: Daemon) -> None:
    processes = [await daemon.sh("for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.01; done") for _ in range(3)]
    for process in processes:
        await daemon.ended(process)
    everything = await take(connect(daemon, refs(*processes)), "eof")
    shown = [(event.kind, event.text) for event in everything if event.kind != "joined"]
    for number, event in enumerate(everything[:-1]):
        rest = await take(connect(daemon, refs(*processes), event.id_text), "eof")
        assert rest[0].kind == "joined"
        after = sorted((it.kind, it.text) for it in everything[number + 1 :])
        assert sorted((it.kind, it.text) for it in rest[1:]) == after, event.id_text
    assert len(shown) == 3 * 6 + 3 + 1


async def test_tail_stream_and_since_select_lines_of_each_process(daemon: Daemon) -> None:
    processes = [await daemon.sh("seq 1 5; echo err >&2") for _ in range(2)]
    for process in processes:
        await daemon.ended(process)
    events = await take(connect(daemon, f"{refs(*processes)}&tail=2&stream=stdout"), "eof")
    assert [line for lines in lines_of(events).values() for _, line in lines] == ["4\n", "5\n"] * 2
    assert all(member["seq"] > 0 for member in events[0].data["processes"])
    later = processes[0]["started_at"] + 3_600_000
    assert lines_of(await take(connect(daemon, f"{refs(*processes)}&since={later}"), "eof")) == {}


async def test_processes_with_the_tag_join_when_they_start(daemon: Daemon) -> None:
    await daemon.ended(await daemon.sh("echo over", tags={"team": "a"}))
    other = await daemon.run("cat", stdin_mode="pipe", tags={"team": "b"})
    running = await daemon.sh("echo before; cat", stdin_mode="pipe", tags={"team": "a"})
    await daemon.wait_for_lines(running, 1)
    stream = connect(daemon, "tag=team:a")
    events = await take(stream, "output")
    assert [it["process_id"] for it in events[0].data["processes"]] == [running["id"]]
    await daemon.call("POST", f"/processes/{other['id']}/stdin", 204, data=b"not wanted\n")
    late = await daemon.sh("echo late", tags={"team": "a", "more": "x"})
    events += await take(stream, "end")
    await daemon.call("POST", f"/processes/{running['id']}/stdin", 204, data=b"after\n")
    events += await take(stream, "output")
    assert lines_of(events) == {running["id"]: [(1, "before\n"), (2, "after\n")], late["id"]: [(1, "late\n")]}
    joined = [event.data["processes"] for event in events if event.kind == "joined"]
    assert [it["process_id"] for it in joined[1]] == [late["id"]]
    assert [event.data["process_id"] for event in events if event.kind == "end"] == [late["id"]]
    await stream.aclose()


async def test_a_process_that_starts_while_nobody_is_connected_joins_on_reconnect(daemon: Daemon) -> None:
    await daemon.ended(await daemon.sh("echo over", tags={"team": "a"}))
    stream = connect(daemon, "tag=team:a&tail=0")
    (begun,) = await take(stream, "joined")
    assert begun.data == {"processes": []}
    await stream.aclose()
    process = await daemon.sh("echo missed", tags={"team": "a"})
    await daemon.ended(process)
    events = await take(connect(daemon, "tag=team:a&tail=0", begun.id_text), "end")
    assert lines_of(events) == {process["id"]: [(1, "missed\n")]}
    again = connect(daemon, "tag=team:a&tail=0", events[-1].id_text)
    assert (await take(again, "joined"))[0].data == {"processes": []}
    last = await daemon.sh("echo last", tags={"team": "a"})
    assert lines_of(await take(again, "output")) == {last["id"]: [(1, "last\n")]}
    await again.aclose()


async def test_a_managed_process_is_followed_over_its_runs(daemon: Daemon) -> None:
    stream = connect(daemon, "tag=team:a")
    await take(stream, "joined")
    restart = {"policy": "always", "initial_backoff_ms": 1, "max_backoff_ms": 1}
    process = await daemon.sh("echo run", name="web", restart=restart, tags={"team": "a"})
    events = await take(stream, "output", 3)
    assert lines_of(events) == {"web": [(1, "run\n"), (2, "run\n"), (3, "run\n")]}
    assert "end" not in [event.kind for event in events]
    await daemon.call("DELETE", f"/processes/{process['id']}", 204)
    assert (await take(stream, "end"))[-1].data["name"] == "web"
    await stream.aclose()


async def test_a_purged_process_leaves_the_stream(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000")
    stream = connect(daemon, refs(process))
    begun = (await take(stream, "joined"))[0]
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    events = await take(stream, "eof")
    assert [event.kind for event in events][-2:] in (["purged", "eof"], ["end", "eof"])
    events = await take(connect(daemon, refs(process), begun.id_text), "eof")
    assert [(event.kind, event.data) for event in events] == [
        ("joined", {"processes": []}),
        ("purged", {"handle": process["handle"]}),
        ("eof", {}),
    ]


@pytest.mark.parametrize(
    ("query", "status", "phrase"),
    [
        ("", 400, "process is required, or tag"),
        ("tail=1", 400, "process is required, or tag"),
        ("process=nobody", 404, "'nobody'"),
        ("process=@9&tag=a:b", 404, "'@9'"),
        ("tag=a", 400, "tag must have the form key:value"),
        ("process=1&after=x", 400, "after must be the id of an event of this stream"),
        ("process=1&after=13:1,12:1", 400, "after must be"),
        ("process=1&after=12:1,12", 400, "after must be"),
        ("proces=1", 400, "did you mean process?"),
        ("process=1&after=" + ",".join(f"{n}:1" for n in range(1, 102)), 400, "at most 100"),
    ],
)
async def test_a_wrong_request_is_refused(daemon: Daemon, query: str, status: int, phrase: str) -> None:
    assert phrase in (await daemon.call("GET", f"{PATH}?{query}", status))["error"]
    if "after=x" in query:
        header = {"Last-Event-ID": "x"}
        error = await daemon.call("GET", f"{PATH}?process=1", 400, **header)
        assert error["error"].startswith("Last-Event-ID must be")


async def test_a_client_that_reads_slowly_gets_everything_once(daemon: Daemon) -> None:
    """The daemon keeps nothing but a position for a client that has fallen behind."""
    processes = [await daemon.sh(f"seq {n} {n + 19_999}") for n in (100_000, 200_000)]
    url = urlsplit(daemon.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (url.hostname, url.port))
        request = f"GET /api/v1{PATH}?{refs(*processes)} HTTP/1.0\r\nAuthorization: Bearer {daemon.token}\r\n\r\n"
        await loop.sock_sendall(sock, request.encode())
        for process in processes:
            await daemon.ended(process)
        answer = b""
        while len(answer) < MOST_BYTES and (data := await asyncio.wait_for(loop.sock_recv(sock, 16 << 10), DEADLINE_S)):
            answer += data
    events, _ = parse_events(answer.partition(b"\r\n\r\n")[2])
    assert [event.kind for event in events if event.kind != "output"] == ["joined", "end", "end", "eof"]
    assert lines_of(events) == {
        it["id"]: [(i + 1, f"{n + i}\n") for i in range(20_000)]
        for it, n in zip(processes, (100_000, 200_000), strict=True)
    }


async def test_an_end_of_the_daemon_breaks_the_stream_off(daemon: Daemon) -> None:
    process = await daemon.run("sleep", "1000", tags={"team": "a"})
    streams = [connect(daemon, query) for query in ("tag=team:a", "tag=team:none", refs(process))]
    for stream in streams:
        await take(stream, "joined")
    assert await daemon.stop() == 0
    for stream in streams:
        with pytest.raises(BROKEN):
            await take(stream, "eof")
    await daemon.start()


async def test_nothing_is_lost_or_repeated_over_kills_of_the_daemon(daemon: Daemon) -> None:
    """Two processes from the beginning, a managed one with many runs, and others that start in between."""
    lines, kills = 3000, 4
    printer = f"for i in range({lines}):\n    print(i, flush=True)\n    time.sleep(0.0005)"
    tags = {"team": "a"}
    started = [await daemon.python(f"import time\n{printer}", tags=tags) for _ in range(2)]
    restart = {"policy": "always", "initial_backoff_ms": 20, "max_backoff_ms": 20}
    managed = await daemon.sh("seq 1 20; echo end of run", name="web", restart=restart, tags=tags)
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    joined: set[str] = set()
    ended: list[str] = []
    seen = ""

    async def follow() -> None:
        nonlocal seen
        while True:
            with contextlib.suppress(*BROKEN):
                async for event in connect(daemon, "tag=team:a", seen):
                    seen = event.id_text
                    if event.kind == "output":
                        found[event.data["process_id"]].append((event.data["seq"], event.data["line"]))
                    elif event.kind == "joined":
                        joined.update(it["process_id"] for it in event.data["processes"])
                    elif event.kind == "end":
                        ended.append(event.data["process_id"])
            await asyncio.sleep(0.01)

    following = asyncio.create_task(follow())
    try:
        for _ in range(kills):
            before = sum(map(len, found.values()))
            enough = before + 200
            await eventually(lambda: sum(map(len, found.values())) >= enough)  # noqa: B023 - awaited at once
            started.append(await daemon.python(f"import time\n{printer}", tags=tags))
            await daemon.kill()
            await daemon.start()
        await daemon.call("DELETE", f"/processes/{managed['id']}", 204)
        for process in started:
            await daemon.ended(process)
        await eventually(lambda: len(ended) > len(started))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert sorted(ended) == sorted(it["id"] for it in [*started, managed])
    assert joined == set(ended)
    for process in started:
        assert found[process["id"]] == [(i + 1, f"{i}\n") for i in range(lines)]
    of_managed = [event for event in await daemon.drained(managed) if event.kind == "output"]
    assert found[managed["id"]] == [(event.id, event.data["line"]) for event in of_managed]

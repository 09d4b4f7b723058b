"""Connections of the client: silent, refused and cut ones, unix sockets, and those that are left."""

import asyncio
import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlast import AsyncOutlast
from outlast.client import ConfigError, Event, Gap, Interrupted, ProcessGone, Unavailable
from outlast.client.address import find_address
from outlast.client.subscription import Events
from tests.client_library.threaded import connect
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = (
    b'id: %d\nevent: started\ndata: {"type":"started","process_id":"P","name":null,"tags":{},'
    b'"pid":1,"run":1,"timestamp":5}\n\n'
)
INFO = b'{"version":"1","shim_version":null,"uptime_secs":1,"running_processes":0,"total_processes":0,"adopted":true}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


class Server(Daemon):
    """A server that sends what it is told: for each connection the next of `answers`, and then no more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, OUTLAST_TOKEN="secret")
        self.answers: list[bytes] = []
        self.stays_open = True
        self.requests: list[bytes] = []
        self.left = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            writer.write(self.answers.pop(0))
            await writer.drain()
            if self.stays_open:
                while await reader.read(1000):
                    pass
        self.left += 1
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    fake = Server(tmp_path)
    async with await asyncio.start_server(fake.serve, "127.0.0.1", 0) as listening:
        fake.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield fake


async def next_id(events: AsyncIterator[Event | Gap]) -> int:
    event = await asyncio.wait_for(anext(events), DEADLINE_S)
    assert isinstance(event, Event)
    return event.id


async def test_a_silent_connection_is_given_up(form: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Events.request
    monkeypatch.setattr(Events, "request", lambda stream: dataclasses.replace(patient(stream), silent_s=0.05))
    server.answers = [HEAD + chunk(EVENT % 1), HEAD + chunk(EVENT % 1 + EVENT % 2)]
    async with connect(form, server) as client, contextlib.aclosing(client.events()) as events:
        assert [await next_id(events) for _ in range(2)] == [1, 2]
    assert b"last-event-id: 1" in server.requests[1].lower()


async def test_a_stream_that_is_cut_inside_an_event_goes_on(form: str, server: Server) -> None:
    server.stays_open = False
    server.answers = [HEAD + chunk(EVENT % 1 + (EVENT % 2)[:-9]), HEAD + chunk(EVENT % 2), HEAD + chunk(EVENT % 3)]
    async with connect(form, server) as client, contextlib.aclosing(client.events()) as events:
        assert [await next_id(events) for _ in range(3)] == [1, 2, 3]


async def test_a_daemon_that_is_not_available_is_waited_for(form: str, server: Server) -> None:
    later = answer(b"503 Busy", b'{"error":"later","code":"UNAVAILABLE"}', b"Retry-After: 0\r\n")
    server.stays_open = False
    server.answers = [later, later, HEAD + chunk(EVENT % 1), later, answer(b"200 OK", INFO)]
    async with connect(form, server) as client:
        async with contextlib.aclosing(client.events()) as events:
            assert await next_id(events) == 1
        assert (await client.info()).version == "1"
    server.answers = [later]
    async with connect(form, server, give_up_after=0) as client:
        with pytest.raises(Unavailable, match="later"):
            await client.info()


async def test_input_that_is_not_answered_is_not_written_again(form: str, server: Server, daemon: Daemon) -> None:
    async with connect(form, daemon) as client:
        process = await client.start("cat", stdin="pipe")
        await daemon.hang_up()
        server.answers, server.stays_open = [b""], False
        async with connect(form, server) as other:
            session = getattr(other, "_target", other)._session
            getattr(process, "_target", process)._session = session
            with pytest.raises(Interrupted, match="perhaps it was done"):
                await process.send("x")
    assert len(server.requests) == 1


async def test_processes_that_run_come_once_though_two_pages_have_them(
    form: str, server: Server, daemon: Daemon
) -> None:
    process = await daemon.run("true")
    pages = [
        {"processes": [{**process, "id": id_, "status": status} for id_, status in page], "next": cursor}
        for page, cursor in (([("C", "exited"), ("A", "running")], "c"), ([("B", "exited"), ("A", "exited")], None))
    ]
    server.answers = [answer(b"200 OK", json.dumps(page).encode(), b"Connection: close\r\n") for page in pages]
    server.stays_open = False
    async with connect(form, server) as client:
        assert [found.id async for found in client.processes()] == ["C", "A", "B"]
    assert b"cursor=c" in server.requests[1]


async def test_a_second_process_of_a_run_is_killed(form: str, server: Server) -> None:
    """The first one was purged, and its key with it, between the look at it and the next request."""
    streams = [
        HEAD + chunk(b'data: {"pid":1,"started_at":5,"id":"%b"}\n\n' % process_id) for process_id in (b"P1", b"Q2")
    ]
    gone = answer(b"404 No", b'{"error":"gone","code":"NOT_FOUND"}', b"Connection: close\r\n")
    server.answers = [streams[0], answer(b"200 OK", b"{}", b"Connection: close\r\n"), streams[1], gone]
    server.answers.append(answer(b"204 Done", b"", b"Connection: close\r\n"))
    server.stays_open = False
    async with connect(form, server) as client:
        with pytest.raises(ProcessGone):
            await asyncio.wait_for(client.run("true"), DEADLINE_S)
    targets = [request.split(b"?")[0].split(b" HTTP")[0] for request in server.requests]
    assert targets == [
        b"POST /api/v1/processes/run",
        b"GET /api/v1/processes/P1",
        b"POST /api/v1/processes/run",
        b"DELETE /api/v1/processes/P1",
        b"DELETE /api/v1/processes/Q2",
    ]


async def test_closing_a_stream_closes_its_connection(form: str, server: Server) -> None:
    server.answers = [HEAD + chunk(EVENT % 1)]
    async with connect(form, server) as client:
        events = client.events()
        await anext(events)
        assert server.left == 0
        await events.aclose()
        await eventually(lambda: server.left == 1)


async def test_a_connection_is_used_again(form: str, daemon: Daemon) -> None:
    async with connect(form, daemon) as client:
        for _ in range(5):
            await client.info()
            await asyncio.sleep(0)
        sockets = [path for path in Path("/proc/self/fd").iterdir() if is_socket_to(path, daemon)]
    assert len(sockets) == 1


def is_socket_to(path: Path, daemon: Daemon) -> bool:
    """Tell whether a descriptor of ours is a TCP connection to a daemon."""
    with contextlib.suppress(OSError):
        inode = str(path.readlink()).partition("socket:[")[2].rstrip("]")
        port = f":{int(daemon.url.rpartition(':')[2]):04X}"
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(row[9] == inode and row[2].endswith(port) for row in rows)
    return False


async def test_a_daemon_on_a_unix_socket_is_reached(form: str, state_dir: Path, tmp_path: Path) -> None:
    daemon = Daemon(state_dir)
    try:
        await daemon.start("--listen", f"unix:{tmp_path}/api.sock")
        async with connect(form, daemon) as client:
            done = await client.run("echo", "x")
            assert (done.stdout, [event.type async for event in first_events(client)]) == ("x", ["started", "exited"])
    finally:
        await daemon.end_everything()


async def first_events(client: AsyncOutlast) -> AsyncIterator[Event]:
    async with contextlib.aclosing(client.events()) as events:
        for _ in range(2):
            event = await anext(events)
            assert isinstance(event, Event)
            yield event


def test_ctrl_c_ends_a_program_that_follows() -> None:
    """The program listens itself, answers one event, and is then interrupted in its wait for the next."""
    program = f"""
import socket, threading
from outlast import Outlast
listening = socket.create_server(("127.0.0.1", 0))
def serve():
    global connection  # stays open
    connection, _ = listening.accept()
    connection.recv(10000)
    connection.sendall({HEAD + chunk(EVENT % 1)!r})
threading.Thread(target=serve, daemon=True).start()
for event in Outlast(f"http://127.0.0.1:{{listening.getsockname()[1]}}", "x").events():
    print("came", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"came\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGINT
    assert said.rstrip().endswith(b"KeyboardInterrupt")


def test_the_daemon_is_found_by_environment_and_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    state = {"OUTLAST_STATE_DIR": str(tmp_path)}
    found = find_address(None, None, state)
    assert (found.url, found.token, found.token_from) == ("http://127.0.0.1:9501", "secret", str(tmp_path / "token"))
    assert find_address(None, None, {**state, "OUTLAST_LISTEN": "[::]:7"}).url == "http://[::1]:7"
    assert find_address(None, None, {**state, "OUTLAST_LISTEN": "unix:/a/b"}).socket == "/a/b"
    assert find_address(None, None, {**state, "OUTLAST_URL": "http://localhost:8/"}).url == "http://localhost:8"
    (tmp_path / "address").write_text("http://0.0.0.0:9\nunix:/a\n")
    assert find_address(None, None, {**state, "OUTLAST_LISTEN": "127.0.0.1:8"}).url == "http://127.0.0.1:9"
    (tmp_path / "address").write_text("unix:/a\n")
    assert find_address(None, None, state).socket == "/a"
    assert find_address(None, None, {**state, "OUTLAST_URL": "http://localhost:8"}).socket == ""
    assert find_address("unix:/c", "given", {**state, "OUTLAST_TOKEN": "t"}).token == "given"
    assert find_address("http://127.0.0.1:1", None, {**state, "OUTLAST_TOKEN": "t"}).token == "t"


def test_the_token_of_this_machine_is_sent_to_no_other(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert find_address("https://example.com", None, {"OUTLAST_STATE_DIR": str(tmp_path)}).token == ""


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9501",
        "ftp://x",
        "http://",
        "unix:",
        "http://127.0.0.1:x",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://127.0.0.1/a b",
        "http://\u00fc.example",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the address"):
        find_address(url, "x", {})


def test_a_token_that_no_header_can_carry_is_refused(tmp_path: Path) -> None:
    for token in ("a\nb", "\u00fc", "\u20ac"):
        with pytest.raises(ConfigError, match="no header can carry"):
            find_address(None, None, {"OUTLAST_TOKEN": token})
    assert find_address(None, None, {"OUTLAST_TOKEN": " t\n", "OUTLAST_STATE_DIR": str(tmp_path)}).token == "t"


async def test_a_stream_ends_when_its_client_is_closed(daemon: Daemon) -> None:
    client = AsyncOutlast(daemon.url, daemon.token)
    process = await client.start("sh", "-c", "echo hello; sleep 1000")
    first = asyncio.Event()

    async def follow() -> None:
        async for _ in process.follow():
            first.set()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(DEADLINE_S):
        await first.wait()
        await client.close()
        with pytest.raises(RuntimeError, match="the client was closed"):
            await following

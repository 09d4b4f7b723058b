"""Terminals: how long a key stroke takes to be shown, how fast output comes, and what idle ones take."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import OURS, Figures, Measure, Row
from bench.serving import Outlast, outlast
from bench.websocket import WebSocket
from harness.proc import cpu_s, pss_bytes

_ECHO = ["sh", "-c", "stty raw -echo; printf ready; exec cat"]
_SILENT_S = 60.0
_END_S = 30.0
_SLOW_BYTES, _SLOW_S = 64 << 10, 0.05
_MIB = 1 << 20
_RELAY = "bare relay"
_SETTLED_S = 2.0


def _session(server: Outlast, argv: list[str]) -> str:
    session: str = server.call("POST", "/pty", {"command": argv[0], "args": argv[1:]})["session_id"]
    return session


def _attach(server: Outlast, session: str) -> WebSocket:
    client = WebSocket(server.host, server.port, f"/api/v1/pty/{session}/ws", server.headers, _SILENT_S)
    client.send(b"\2")
    return client


@contextlib.contextmanager
def _relay(argv: list[str]) -> Iterator[tuple[WebSocket, int]]:
    """Yield a client of a relay, and the pid of the relay."""
    relay = subprocess.Popen(
        [sys.executable, "-m", "bench.terminal_relay", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to act on
    )
    try:
        assert relay.stdout is not None  # noqa: S101 - a pipe was asked for
        port = int(relay.stdout.readline())
        with contextlib.closing(WebSocket("127.0.0.1", port, "/", {}, _SILENT_S)) as client:
            yield client, relay.pid
    finally:
        relay.terminate()
        relay.communicate(timeout=_END_S)


# ---- echo


def echo_outlast(folder: Path, strokes: int) -> Figures:
    """Type into a terminal of an Outlast."""
    with outlast(folder / "state") as server, contextlib.closing(_attach(server, _session(server, _ECHO))) as client:
        before_s = cpu_s(server.pid) + cpu_s(server.shim_pid)
        figures = _type(client, strokes)
        return {**figures, _CPU: (cpu_s(server.pid) + cpu_s(server.shim_pid) - before_s) / strokes * 1e6}


def echo_relay(_folder: Path, strokes: int) -> Figures:
    """Type into the terminal of a relay."""
    with _relay(_ECHO) as (client, pid):
        before_s = cpu_s(pid)
        figures = _type(client, strokes)
        return {**figures, _CPU: (cpu_s(pid) - before_s) / strokes * 1e6}


def _type(client: WebSocket, strokes: int) -> Figures:
    """Type one key after the other, each when the one before is shown."""
    shown = b""
    while not shown.endswith(b"ready"):
        shown += client.receive()[1:]
    took_ns = []
    for _ in range(strokes):
        began_ns = time.monotonic_ns()
        client.send(b"\0x")
        if client.receive() != b"\0x":
            raise RuntimeError("another key is shown than was typed")
        took_ns.append(time.monotonic_ns() - began_ns)
    took_ns.sort()
    return {f"p{percent} us": took_ns[len(took_ns) * percent // 100] / 1000 for percent in (50, 99)}


_CPU = "CPU us/key"

ECHO = Measure(
    name="terminal-echo",
    title="{size} keys typed into a terminal, each until it is shown",
    contestants={OURS: echo_outlast, _RELAY: echo_relay},
    rows=(
        Row(figure="p50 us", yardstick=_RELAY, at_most=3.0),
        Row(figure="p99 us", yardstick=_RELAY),
        Row(figure=_CPU, yardstick=_RELAY),
    ),
    size=2000,
    smoke_size=50,
    lacks={_RELAY: "a store, tokens, several clients, life after a kill"},
)

# ---- flood


def flood_outlast(folder: Path, megabytes: int) -> Figures:
    """Show a file in a terminal of an Outlast, to a client that reads fast, beside one that reads slowly."""
    argv = _flood(folder, megabytes)
    with outlast(folder / "state") as server:
        session = _session(server, argv)
        with contextlib.closing(_attach(server, session)) as slow, _reading_slowly(slow):
            return _receive(_attach(server, session), megabytes)


def flood_relay(folder: Path, megabytes: int) -> Figures:
    """Show a file in the terminal of a relay, which has no second client."""
    with _relay(_flood(folder, megabytes)) as (client, _pid):
        return _receive(client, megabytes)


def _flood(folder: Path, megabytes: int) -> list[str]:
    """Return a program that shows a file when a key is typed."""
    line = b"%07d " + b"x" * 91 + b"\n"
    with (folder / "file").open("wb") as file:
        for number in range(megabytes):
            file.writelines(line % n for n in range(number * 10_000, (number + 1) * 10_000))
    return ["sh", "-c", 'stty raw -echo; printf ready; head -c 1 > /dev/null; exec cat "$0"', str(folder / "file")]


def _receive(client: WebSocket, megabytes: int) -> Figures:
    shown = b""
    while not shown.endswith(b"ready"):
        shown += client.receive()[1:]
    client.send(b"\0x")
    began = time.monotonic()
    count = 0
    while count < megabytes * 1_000_000:
        count += len(client.receive()) - 1
    took_s = time.monotonic() - began
    client.close()
    return {"MB/s": megabytes / took_s}


@contextlib.contextmanager
def _reading_slowly(client: WebSocket) -> Iterator[None]:
    """Read what a client is sent, slowly, on another thread."""
    is_over = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while not is_over.wait(_SLOW_S) and client.sock.recv(_SLOW_BYTES):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        is_over.set()
        reader.join()


FLOOD = Measure(
    name="terminal-flood",
    title="{size} MB through `cat` in a terminal, to a fast client; ours with a slow one beside it",
    contestants={OURS: flood_outlast, _RELAY: flood_relay},
    rows=(Row(figure="MB/s", yardstick=_RELAY, at_least=0.5),),
    size=100,
    smoke_size=2,
    lacks={_RELAY: "a store, tokens, several clients, life after a kill"},
)

# ---- memory


def memory_outlast(folder: Path, terminals: int) -> Figures:
    """Measure daemon and shim with idle terminals."""
    with outlast(folder / "state") as server:
        _session(server, ["sleep", "86400"])
        before = _anonymous(server)
        for _ in range(terminals):
            _session(server, ["sh", "-c", "printf '$ '; exec sleep 86400"])
        time.sleep(_SETTLED_S)
        return {"KiB a terminal": (_anonymous(server) - before) / terminals / (1 << 10)}


def _anonymous(server: Outlast) -> int:
    return sum(pss_bytes(pid, "Pss_Anon") for pid in server.pids)


MEMORY = Measure(
    name="terminal-memory",
    title="{size} idle terminals: memory of daemon and shim",
    contestants={OURS: memory_outlast},
    rows=(Row(figure="KiB a terminal", yardstick=None, at_most=60.0),),
    size=500,
    smoke_size=10,
)

MEASURES = (ECHO, FLOOD, MEMORY)

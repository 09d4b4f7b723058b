"""How long a line takes from the process's write to a follower, and what it costs: Outlast beside a bare relay."""

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench import writers
from bench.measure import OURS, Figures, Measure, Row
from bench.serving import Outlast, outlast
from harness import proc

LINES_PER_S = 1000
_RECEIVE_BYTES = 256 << 10
_SILENT_S = 30.0
_END_S = 30.0


def run_outlast(folder: Path, lines: int) -> Figures:
    """Follow a process of an Outlast by Server-Sent Events."""
    with outlast(folder / "state") as server:
        server.run(["true"])  # the fork helper is there
        before_s = _cpu_s(server)
        process = server.run(writers.ticker(lines, LINES_PER_S))
        with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=_SILENT_S)) as connection:
            connection.request("GET", f"/api/v1/processes/{process['id']}/output/follow", headers=server.headers)
            figures = _receive(connection.sock, lines)
            return {**figures, _CPU: (_cpu_s(server) - before_s) / lines * 1e6}


def _cpu_s(server: Outlast) -> float:
    """Return the processor time of daemon and shim."""
    return proc.cpu_s(server.pid) + proc.cpu_s(server.shim_pid)


def run_relay(_folder: Path, lines: int) -> Figures:
    """Read from `bench.relay`, which only forwards."""
    return _relay(lines)


def run_syncing_relay(folder: Path, lines: int) -> Figures:
    """Read from `bench.relay`, which syncs each piece to the disk before it forwards it."""
    return _relay(lines, "--sync", str(folder / "relayed"))


def _relay(lines: int, *options: str) -> Figures:
    relay = subprocess.Popen(
        [sys.executable, "-m", "bench.relay", *options, *writers.ticker(lines, LINES_PER_S)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to act on
    )
    try:
        assert relay.stdout is not None  # noqa: S101 - a pipe was asked for
        with socket.create_connection(("127.0.0.1", int(relay.stdout.readline())), timeout=_SILENT_S) as sock:
            figures = _receive(sock, lines)
            return {**figures, _CPU: proc.cpu_s(relay.pid) / lines * 1e6}
    finally:
        relay.terminate()
        relay.communicate(timeout=_END_S)


_CPU = "CPU us/line"
_BARE = "bare relay"
_SYNCING = "relay that syncs"

MEASURE = Measure(
    name="latency",
    title=f"{{size}} lines at {LINES_PER_S:,} lines/s, from the write to a follower's receipt",
    contestants={OURS: run_outlast, _BARE: run_relay, _SYNCING: run_syncing_relay},
    rows=(
        Row(figure="p50 us", yardstick=_BARE, at_most=3.0),
        Row(figure="p99 us", yardstick=_BARE, at_most=5.0),
        Row(figure="p50 us", yardstick=_SYNCING, at_most=1.0),
        Row(figure="p99 us", yardstick=_SYNCING),
        Row(figure=_CPU, yardstick=_BARE),
    ),
    size=10 * LINES_PER_S,
    smoke_size=LINES_PER_S,
    lacks={_BARE: "framing, HTTP, a store", _SYNCING: "framing, HTTP, reading again"},
)


def _receive(sock: socket.socket, lines: int) -> Figures:
    """Compare the time of each receipt with the times that the lines carry.

    Raises:
        RuntimeError: the stream ended before its last line.
    """
    stamp = re.compile(writers.STAMP)
    delays_ns: list[int] = []
    count, rest, first_ns = 0, b"", 0
    while count < lines:
        data = sock.recv(_RECEIVE_BYTES)
        now_ns = time.monotonic_ns()
        if not data:
            raise RuntimeError(f"the stream ended after {count} of {lines} lines")
        first_ns = first_ns or now_ns
        data = rest + data
        taken = 0
        for found in stamp.finditer(data):
            taken = found.end()
            count += 1
            written_ns = int(found[1])
            if written_ns > first_ns:  # what was written before the reader was there waited for the reader
                delays_ns.append(now_ns - written_ns)
        rest = data[taken:]
    if not delays_ns:
        raise RuntimeError("all lines had been written before the first came: more are needed")
    delays_ns.sort()
    return {f"p{percent} us": delays_ns[len(delays_ns) * percent // 100] / 1000 for percent in (50, 99)}

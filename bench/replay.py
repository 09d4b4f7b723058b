"""Speed of reading stored output as events, NDJSON and bytes, beside aiohttp sending a file of the same bytes."""

import contextlib
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench import writers
from bench.flood import Flood, run_shell
from bench.measure import OURS, Figures, Measure, Row
from bench.reader import Reader, read_all
from bench.serving import Outlast, outlast
from harness import proc

_FILE = "FileResponse"
_COPIED = "file, read and written"
_RAW = "application/octet-stream"
_END_S = 30.0
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def run_outlast(folder: Path, lines: int) -> Figures:
    """Read the output of a process in each of three ways.

    Raises:
        RuntimeError: something is missing.
    """
    with outlast(folder / "state") as server:
        process = server.run(writers.flood(lines))
        path = f"/api/v1/processes/{process['id']}/output"
        stored = server.stored_lines(process)
        figures: dict[str, float] = {}
        for name, where, accept, mark, others in (
            ("SSE", f"{path}/follow", "text/event-stream", b"\n\n", 1),  # and `eof`
            ("NDJSON", path, "application/x-ndjson", b"}\n", 0),
        ):
            seconds, cpu_s, reader = _read(server, where, accept, mark)
            if reader.count != stored + others or not reader.end.endswith(_LAST_CHUNK):
                raise RuntimeError(f"of {stored} events {reader.count - others} came; the end: {reader.end!r}")
            figures |= {f"{name} events/s": lines / seconds, f"{name} CPU us/event": cpu_s / lines * 1e6}
        seconds, cpu_s, reader = _read(server, path, _RAW, None)
        _verify_bytes(reader, lines)
        return {**figures, **_bytes_figures(lines, seconds, cpu_s)}


def run_file_server(folder: Path, lines: int, how: str) -> Figures:
    """Read a file of the same bytes from `bench.fileserver`. `how`: `kernel` or `copy`.

    Raises:
        RuntimeError: something is missing.
    """
    run_shell(folder, Flood(lines, "960k"))
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.fileserver", how, str(folder / "stdout.log")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to act on
    )
    try:
        assert server.stdout is not None  # noqa: S101 - a pipe was asked for
        address = ("127.0.0.1", int(server.stdout.readline()))
        before_s = proc.cpu_s(server.pid)
        reader = Reader(address, "/", {"Accept": _RAW}, None)
        seconds = read_all(reader)
        _verify_bytes(reader, lines)
        return _bytes_figures(lines, seconds, proc.cpu_s(server.pid) - before_s)
    finally:
        server.terminate()
        server.communicate(timeout=_END_S)


MEASURE = Measure(
    name="replay",
    title=f"{{size}} stored lines of {writers.LINE_BYTES} bytes, from the call to the last byte's receipt",
    contestants={
        OURS: run_outlast,
        _FILE: partial(run_file_server, how="kernel"),
        _COPIED: partial(run_file_server, how="copy"),
    },
    rows=(
        Row(figure="SSE events/s", yardstick=None, at_least=1e6),
        Row(figure="SSE CPU us/event", yardstick=None, at_most=1.0),
        Row(figure="NDJSON events/s", yardstick=None),
        Row(figure="NDJSON CPU us/event", yardstick=None),
        Row(figure="octet-stream MB/s", yardstick=_FILE, at_least=0.5),
        Row(figure="octet-stream MB/s", yardstick=_COPIED),
        Row(figure="octet-stream CPU us/MB", yardstick=_FILE),
    ),
    size=5_000_000,
    smoke_size=50_000,
    lacks=dict.fromkeys((_FILE, _COPIED), "events; reading from a line, or by time; a store"),
)


def _read(server: Outlast, path: str, accept: str, mark: bytes | None) -> tuple[float, float, Reader]:
    """Return the seconds, the daemon's processor time in seconds, and what was read."""
    before_s = proc.cpu_s(server.pid)
    reader = Reader((server.host, server.port), path, {**server.headers, "Accept": accept}, mark)
    with contextlib.closing(reader):
        seconds = read_all(reader)
    return seconds, proc.cpu_s(server.pid) - before_s, reader


def _verify_bytes(reader: Reader, lines: int) -> None:
    last = writers.flood_line(lines - 1) + b"\n"
    if reader.bytes < lines * writers.LINE_BYTES or not reader.end.endswith(last):
        raise RuntimeError(f"{reader.bytes} bytes of {lines} lines came; the end: {reader.end!r}")


def _bytes_figures(lines: int, seconds: float, cpu_s: float) -> Figures:
    megabytes = lines * writers.LINE_BYTES / 1e6
    return {"octet-stream MB/s": megabytes / seconds, "octet-stream CPU us/MB": cpu_s / megabytes * 1e6}

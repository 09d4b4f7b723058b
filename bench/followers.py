"""Many followers of one process: processor time of an event, and memory of a follower that reads or does not."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import writers
from bench.measure import OURS, Figures, Measure, Row
from bench.reader import Reader, read_all, read_each
from bench.serving import Outlast, outlast
from harness import proc

FOLLOWERS = 200
LINES_PER_S = 5000
_FLOOD_LINES = 1_000_000
_SMOKE_FLOOD_LINES = 100_000
_SMALL_BUFFER_BYTES = 64 << 10
_FIRST = 50
_LOOK_AGAIN_S, _IDLE_S = 0.2, 0.01
_MARK = b"}\n"  # the end of an event's data
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def run_outlast(folder: Path, lines: int) -> Figures:
    """Follow a process that prints, one that is silent, and one that floods followers which do not read.

    Raises:
        RuntimeError: a follower missed an event.
    """
    with outlast(folder / "state") as server:
        silent = _silent_bytes(server)  # comes first: later followers reuse the memory of earlier ones
        cpu_s = _cpu_s(server, lines)
        stopped = _stopped_bytes(server, _FLOOD_LINES if lines >= LINES_PER_S else _SMOKE_FLOOD_LINES)
        return {
            "CPU us/event": cpu_s / (lines * FOLLOWERS) * 1e6,
            "KiB/follower": silent / FOLLOWERS / 1024,
            "KiB/stopped": stopped / 1024,
        }


MEASURE = Measure(
    name="followers",
    title=f"{FOLLOWERS} followers of {{size}} lines at {LINES_PER_S:,} lines/s; as many that do not read",
    contestants={OURS: run_outlast},
    rows=(
        Row(figure="CPU us/event", yardstick=None, at_most=3.0),
        Row(figure="KiB/follower", yardstick=None, at_most=64),
        Row(figure="KiB/stopped", yardstick=None, at_most=64),
    ),
    size=5 * LINES_PER_S,
    smoke_size=LINES_PER_S // 10,
)


def _cpu_s(server: Outlast, lines: int) -> float:
    """Return the daemon's processor time for a process and its followers, from its start to their ends."""
    before_s = proc.cpu_s(server.pid)
    process = server.run(writers.ticker(lines, LINES_PER_S))
    with _following(server, process, FOLLOWERS) as readers:
        read_each(readers)
        cpu_s = proc.cpu_s(server.pid) - before_s
        for reader in readers:
            _verify(reader, server.stored_lines(process))
    return cpu_s


def _verify(reader: Reader, lines: int) -> None:
    if reader.count != lines + 1 or not reader.end.endswith(_LAST_CHUNK):
        raise RuntimeError(f"of {lines} events {reader.count - 1} came; the end: {reader.end!r}")


def _silent_bytes(server: Outlast) -> int:
    """Return the bytes by which the daemon grows with followers of a silent process."""
    process = server.run(["sleep", "infinity"])
    before = proc.pss_bytes(server.pid)
    with _following(server, process, FOLLOWERS) as readers:
        for reader in readers:
            reader.read(bytearray(1))  # the answer has begun
        return proc.pss_bytes(server.pid) - before


def _stopped_bytes(server: Outlast, lines: int) -> float:
    """Return the bytes by which the daemon grows for each follower of a large output that hardly reads.

    The first followers are not counted: they also cause some megabytes that all share.
    """
    process = server.run(writers.flood(lines))
    stored = server.stored_lines(process)
    server.kill()  # otherwise followers would reuse the memory of the flood
    server.start()
    with _following(server, process, 1) as [reader]:
        read_all(reader)
        _verify(reader, stored)
    with _following(server, process, _FIRST, buffer_bytes=_SMALL_BUFFER_BYTES) as first:
        before = _bytes_when_full(server, first)
        with _following(server, process, FOLLOWERS, buffer_bytes=_SMALL_BUFFER_BYTES) as readers:
            return (_bytes_when_full(server, readers) - before) / FOLLOWERS


def _bytes_when_full(server: Outlast, readers: list[Reader]) -> int:
    """Return the daemon's memory when the buffers of `readers` are full."""
    for reader in readers:
        reader.read(bytearray(1))
    spent_s = 0.0
    while spent_s < (now_s := proc.cpu_s(server.pid)) - _IDLE_S:
        spent_s = now_s
        time.sleep(_LOOK_AGAIN_S)
    return proc.pss_bytes(server.pid)


@contextlib.contextmanager
def _following(
    server: Outlast, process: dict[str, Any], count: int, buffer_bytes: int | None = None
) -> Iterator[list[Reader]]:
    path = f"/api/v1/processes/{process['id']}/output/follow"
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                contextlib.closing(
                    Reader((server.host, server.port), path, server.headers, _MARK, buffer_bytes=buffer_bytes)
                )
            )
            for _ in range(count)
        ]

"""Many followers of one process: what an event costs the daemon, and what a follower takes, whether it reads or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import proc, writers
from bench.measure import OURS, Figures, Measure, Row
from bench.reader import Reader, read_all, read_each
from bench.serving import Outlast, outlast

FOLLOWERS = 200
LINES_PER_S = 5000
_FLOOD_LINES = 1_000_000
_SMOKE_FLOOD_LINES = 100_000
_SMALL_BUFFER_BYTES = 64 << 10
_MARK = b"}\n"  # the end of an event's data
_EOF = b"event: eof\ndata: {}\n\n\r\n0\r\n\r\n"


def run_outlast(folder: Path, lines: int) -> Figures:
    """Let many follow one process, one that says nothing, and one that floods them while they do not read.

    Raises:
        RuntimeError: a follower has missed something.
    """
    with outlast(folder / "state") as server:
        silent = _silent_bytes(server)  # first of all: what followers took, the next ones find there to be used
        cpu_s = _cpu_s(server, lines)
        stopped = _stopped_bytes(server, _FLOOD_LINES if lines >= LINES_PER_S else _SMOKE_FLOOD_LINES)
        return {
            "CPU us/event": cpu_s / (lines * FOLLOWERS) * 1e6,
            "KiB/follower": silent / FOLLOWERS / 1024,
            "KiB/stopped": stopped / FOLLOWERS / 1024,
        }


MEASURE = Measure(
    name="followers",
    title=f"{FOLLOWERS} followers of {{size}} lines at {LINES_PER_S:,} lines/s; as many that do not read a flood",
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
    with _following(server, server.run(writers.ticker(lines, LINES_PER_S)), FOLLOWERS) as readers:
        read_each(readers)
        cpu_s = proc.cpu_s(server.pid) - before_s
        for reader in readers:
            if reader.count != lines + 1 or not reader.end.endswith(_EOF):
                raise RuntimeError(f"of {lines} events {reader.count - 1} came; the end: {reader.end!r}")
    return cpu_s


def _silent_bytes(server: Outlast) -> int:
    """Return by how much the daemon grows when followers are there for whom there is nothing."""
    process = server.run(["sleep", "infinity"])
    before = proc.pss_bytes(server.pid)
    with _following(server, process, FOLLOWERS) as readers:
        for reader in readers:
            reader.read(bytearray(1))  # the answer has begun
        return proc.pss_bytes(server.pid) - before


def _stopped_bytes(server: Outlast, lines: int) -> int:
    """Return by how much the daemon grows for followers that read nothing of a flood."""
    _flood(server, lines, stopped=0)  # what it takes without them
    before = proc.pss_bytes(server.pid)
    return _flood(server, lines, stopped=FOLLOWERS) - before


def _flood(server: Outlast, lines: int, *, stopped: int) -> int:
    """Return what the daemon takes when a flood is over, with so many followers that read nothing of it."""
    process = server.run(writers.flood(lines))
    with _following(server, process, stopped, buffer_bytes=_SMALL_BUFFER_BYTES), _following(server, process, 1) as [it]:
        read_all(it)
        if it.count != lines + 1:
            raise RuntimeError(f"of {lines} events {it.count - 1} came to the one that reads")
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

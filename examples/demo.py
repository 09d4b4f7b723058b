"""A demonstration: a process prints, its daemon is killed with -9 twice, and no line is missing.

    python -m examples.demo [--seconds 9]

Exits with 0 if no line is missing, else with 1.
"""

import argparse
import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serving import Outlast
from outlast import AsyncOutlast
from outlast.client import Line

LINES_PER_S = 20
_KILLS_AT = (0.25, 0.6)
_LEAST_AWAY = 0.1
_ACROSS = 16
_END_S = 30.0

_TALKER = f"""
import sys, time
for number in range(1, int(sys.argv[1]) + 1):
    print("line", number, flush=True)
    time.sleep({1 / LINES_PER_S})
"""


class Screen:
    """Rows of line numbers, and between them what happens."""

    def __init__(self) -> None:
        self._colourful = sys.stdout.isatty()
        self._began = time.monotonic()
        self._column = 0

    def say(self, who: str, what: str, colour: int = 0) -> None:
        """Print what happens, with the seconds since the beginning."""
        self.end_row()
        print(f"{time.monotonic() - self._began:6.1f} s  {self._paint(f'{who:<9}', colour)} {what}", flush=True)

    def number(self, number: int, *, alone: bool) -> None:
        """Print the number of a line; `alone`: it was written while there was no daemon."""
        if self._column == _ACROSS:
            self.end_row()
        if self._column == 0:
            print(" " * 20, end="")
        print(self._paint(f"{f'[{number}]':>6}", 33) if alone else f"{number:>5} ", end="", flush=True)
        self._column += 1

    def end_row(self) -> None:
        """Begin a new row, if one is begun."""
        if self._column:
            print()
        self._column = 0

    def _paint(self, text: str, colour: int) -> str:
        return f"\033[1;{colour}m{text}\033[0m" if colour and self._colourful else text


RED, GREEN, BLUE = 31, 32, 36


@dataclass(frozen=True, slots=True)
class Away:
    """A time without a daemon, in milliseconds since the epoch."""

    from_ms: int
    to_ms: int


class Follower:
    """A reader of a process's output by the Python client, which goes on by itself when its connection breaks."""

    def __init__(self, server: Outlast, process: dict[str, Any], screen: Screen) -> None:
        self.seen: list[tuple[int, str]] = []
        self._url, self._token = server.url, server.token
        self._process_id = process["id"]
        self._screen = screen
        self._away: list[Away] = []
        self._killed_ms: int | None = None

    def daemon_died(self) -> None:
        """Note that no daemon runs from now on."""
        self._killed_ms = _now_ms()

    def daemon_is_back(self) -> None:
        """Note that a daemon runs again."""
        assert self._killed_ms is not None  # noqa: S101 - it died before
        self._away.append(Away(self._killed_ms, _now_ms()))

    async def run(self) -> None:
        """Read to the end, over as many daemons as that takes."""
        async with AsyncOutlast(self._url, self._token) as client:
            process = await client.process(self._process_id)
            async for item in process.follow(on_reconnect=self._say_that_it_is_back):
                if isinstance(item, Line):
                    self._show(item)
        self._screen.end_row()

    def _say_that_it_is_back(self, last_id: int) -> None:
        self._screen.say("follower", f"is back with Last-Event-ID: {last_id}", BLUE)

    def _show(self, line: Line) -> None:
        self.seen.append((line.seq, f"{line.text}\n"))
        alone = any(away.from_ms <= line.timestamp <= away.to_ms for away in self._away)
        self._screen.number(line.seq, alone=alone)


async def demonstrate(server: Outlast, seconds: float) -> bool:
    """Run the demonstration, and return whether no line was lost."""
    screen = Screen()
    lines = round(seconds * LINES_PER_S)
    print("A process talks. Its daemon is killed with -9, twice. No line may be missing.\n", flush=True)
    server.start()
    screen.say("daemon", f"pid {server.pid} listens on {server.url}", BLUE)
    process = server.run([sys.executable, "-I", "-c", _TALKER, str(lines)])
    screen.say("process", f"pid {process['pid']} prints {LINES_PER_S} numbered lines a second, {lines} in all", BLUE)
    screen.say("follower", "shows the numbers of the lines that come over HTTP;", BLUE)
    screen.say("", "those [in brackets] were written while there was no daemon")
    follower = Follower(server, process, screen)
    following = asyncio.create_task(follower.run())
    began = time.monotonic()
    try:
        for kill_at in _KILLS_AT:
            await asyncio.sleep(max(0.0, began + seconds * kill_at - time.monotonic()))
            await _kill_and_start(server, follower, screen, seconds * _LEAST_AWAY)
        await asyncio.wait_for(following, seconds + _END_S)
    finally:
        following.cancel()
    return _judge(server, process, follower, screen, lines)


async def _kill_and_start(server: Outlast, follower: Follower, screen: Screen, least_away_s: float) -> None:
    killed = server.pid
    follower.daemon_died()
    await asyncio.to_thread(server.kill)
    screen.say("kill -9", f"the daemon (pid {killed}) is gone; the process talks on", RED)
    await asyncio.sleep(least_away_s)
    await asyncio.to_thread(server.start)
    follower.daemon_is_back()
    screen.say("daemon", f"is started again, as pid {server.pid}", BLUE)


def _judge(server: Outlast, process: dict[str, Any], follower: Follower, screen: Screen, lines: int) -> bool:
    """Compare what was written with what the follower got, what SQL finds, and how the process ended."""
    wanted = [(number, f"line {number}\n") for number in range(1, lines + 1)]
    with contextlib.closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as db:
        db.create_function("sqlar_uncompress", 2, lambda data, _: zlib.decompress(data))
        sql = "SELECT seq, line || char(10) FROM output_lines WHERE process_id = ? ORDER BY seq"
        stored = db.execute(sql, (process["id"],)).fetchall()
    now = server.call("GET", f"/processes/{process['id']}")
    same = (now["pid"], now["exit_code"]) == (process["pid"], 0)
    verdicts = [
        (follower.seen == wanted, f"the follower got {_summary(follower.seen, lines)}"),
        (stored == wanted, f"plain SQL finds {_summary(stored, lines)}"),
        (same, f"the process was pid {process['pid']} from first to last line and ended with {now['exit_code']}"),
    ]
    screen.end_row()
    print()
    for kept, sentence in verdicts:
        screen.say("OK" if kept else "FAILED", sentence, GREEN if kept else RED)
    return all(kept for kept, _ in verdicts)


def _summary(got: list[tuple[int, str]], lines: int) -> str:
    numbers = [number for number, _ in got]
    missing = len(set(range(1, lines + 1)) - set(numbers))
    return f"{len(numbers)} of {lines} lines: {missing} missing, {len(numbers) - len(set(numbers))} twice"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> int:
    """Run the demonstration and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Kill the daemon, and miss no line.")
    parser.add_argument("--seconds", type=float, default=9.0, help="how long the process talks [9]")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="outlast-demo-") as folder:
        server = Outlast(Path(folder) / "state")
        try:
            kept = asyncio.run(demonstrate(server, seconds))
        except KeyboardInterrupt:
            return 130
        finally:
            server.end()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

"""A flood, a trickle and a process that ends when it is told to, each followed over one connection all the time."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.http_client import Event
from tests.support.daemon import Daemon, is_running
from tests.support.waiting import DEADLINE_S, eventually

FLOOD = """
import select, sys, time
written = 0
while not select.select([0], [], [], float(sys.argv[1]))[0]:
    for _ in range(50):
        written += 1
        print(f"{written:08d} " + "x" * 90)
    sys.stdout.flush()
print("end", written)
sys.exit(3)
"""
TRICKLE = """
import select, sys
written = 0
while not select.select([0], [], [], 0.05)[0]:
    written += 1
    print("trickle", written, file=(sys.stdout, sys.stderr)[written % 2], flush=True)
print("end", written)
sys.exit(4)
"""
STOPPABLE = """
import sys
print("alive", flush=True)
sys.stdin.readline()
print("dying", file=sys.stderr, flush=True)
sys.stdout.write("no newline")
sys.exit(9)
"""


def flood_lines(count: int) -> list[str]:
    return [*(f"{n:08d} {'x' * 90}\n" for n in range(1, count + 1)), f"end {count}\n"]


def trickle_lines(count: int) -> list[str]:
    return [*(f"trickle {n}\n" for n in range(1, count + 1)), f"end {count}\n"]


@dataclass
class Followed:
    """A process and what its one follower has seen."""

    process: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def lines(self) -> list[str]:
        return [event.data["line"] for event in self.events if event.kind == "output"]

    def has_eof(self) -> bool:
        return bool(self.events) and self.events[-1].kind == "eof"

    def check(self) -> None:
        """Every line once, in order, without a hole, then the end."""
        assert self.has_eof()
        assert [event.id for event in self.events[:-1]] == list(range(1, len(self.events)))
        assert {event.kind for event in self.events[:-1]} == {"output"}


class Load:
    """What writes while the store fails."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.flood: Followed
        self.trickle: Followed
        self.stoppable: Followed

    async def start(self) -> None:
        """Start the processes and their followers, and wait until each has been heard of."""
        programs = ((FLOOD, "0.012"), (TRICKLE,), (STOPPABLE,))
        started = [await self._daemon.python(*program, stdin_mode="pipe") for program in programs]
        self.flood, self.trickle, self.stoppable = self.all = [Followed(process) for process in started]
        self.follow()
        await eventually(lambda: all(followed.events for followed in self.all))

    def follow(self) -> None:
        """Follow everything, from behind what has been seen."""
        for followed in self.all:
            if not followed.has_eof():
                followed.task = asyncio.create_task(self._follow(followed))

    async def _follow(self, followed: Followed) -> None:
        query = f"?after={followed.events[-1].id}" if followed.events else ""
        async for event in self._daemon.follow(followed.process, query=query):
            followed.events.append(event)

    async def interrupted(self) -> None:
        """Wait until the daemon's end has ended the followers."""
        tasks = [followed.task for followed in self.all if followed.task is not None]
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), DEADLINE_S)

    async def leave(self) -> None:
        """Let all run on with nobody who follows."""
        for followed in self.all:
            if followed.task is not None:
                followed.task.cancel()
        await self.interrupted()

    async def end_stoppable(self) -> None:
        """Let the mortal end, and wait until it has. No daemon is needed for that."""
        pid = self.stoppable.process["pid"]
        Path(f"/proc/{pid}/fd/0").write_text("\n")
        await eventually(lambda: not is_running(pid))

    async def finish(self) -> None:
        """End all, and check that followers, store and exit codes agree with what was written."""
        for followed in (self.flood, self.trickle):
            await self._daemon.call("POST", f"/processes/{followed.process['id']}/stdin", 204, data=b"\n")
        tasks = [followed.task for followed in self.all if followed.task is not None]
        await asyncio.wait_for(asyncio.gather(*tasks), 3 * DEADLINE_S)
        for followed, code in zip(self.all, (3, 4, 9), strict=True):
            followed.check()
            seen = await self._daemon.get(followed.process)
            assert (seen["status"], seen["exit_code"], seen["reason"]) == ("exited", code, "exited")
            assert (await self._daemon.raw(followed.process)).decode() == "".join(followed.lines)
            numbers = self._daemon.sql(
                "SELECT seq FROM output_lines WHERE process_id = ? ORDER BY seq", followed.process["id"]
            )
            assert [seq for (seq,) in numbers] == list(range(1, len(followed.lines) + 1))
        assert self.flood.lines == flood_lines(int(self.flood.lines[-1].split()[1]))
        assert sorted(self.trickle.lines) == sorted(trickle_lines(int(self.trickle.lines[-1].split()[1])))
        assert sorted(self.stoppable.lines) == ["alive\n", "dying\n", "no newline"]

"""Kills of the daemon under a client that follows, listens, runs, searches and writes: nothing is lost or twice."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outlast import AsyncOutlast
from outlast.client import Event, Gap, Interrupted, Line
from tests.cli.commands import started
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

NEEDLES = 300
TALKER = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; sleep {}; done; echo last"
QUICK, SLOW = TALKER.format(0.002), TALKER.format(0.05)
"""Programs that print until they are stopped: one quickly; five slowly, because searches go through all of it."""
RUN = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.01; done; exit 7"
FIVE = 5
SIDES = [f"{i}" for i in range(1, 6)]


@dataclass
class Work:
    """Jobs that a client does again and again until `stop` is set; `done` counts them."""

    ol: AsyncOutlast
    daemon: Daemon
    folder: Path
    five: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reconnects: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    async def follow(self) -> None:
        """Follow a process that prints until the end, and look for each number once."""
        talker = await self.ol.start("sh", "-c", QUICK, cwd=self.folder)
        items = [item async for item in talker.follow(on_reconnect=self.reconnects.append)]
        assert not any(isinstance(item, Gap) for item in items)
        lines = [item for item in items if isinstance(item, Line)]
        assert [line.text for line in lines] == [f"line {n}" for n in range(1, len(lines))] + ["last"]
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        stored = [line async for line in talker.lines() if isinstance(line, Line)]
        assert stored == lines
        self.done["followed"] = len(lines)

    async def follow_five(self) -> None:
        """Follow five processes in one stream, and by `outlast logs -f`, and look for each line of each once."""
        names = [f"talker-{number}" for number in range(FIVE)]
        for name in names:
            await self.ol.start("sh", "-c", SLOW, cwd=self.folder, name=name, restart="never")
        self.five.set()
        async with started(self.daemon, "logs", "-f", "-n", "all", *names) as logs:
            reading = asyncio.create_task(logs.communicate())
            told: defaultdict[str, list[str]] = defaultdict(list)
            async with contextlib.aclosing(self.ol.follow(names)) as found:
                async for member, item in found:
                    assert not isinstance(item, Gap)
                    if isinstance(item, Line):
                        told[str(member.name)].append(item.text)
            out, err = await asyncio.wait_for(reading, 3 * DEADLINE_S)
        shown: defaultdict[str, list[str]] = defaultdict(list)
        for line in out.decode().splitlines():
            name, bar, text = line.split(" ", 2)
            if bar != "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 2:  # how it ended
                shown[name].append(text)
        for name in names:
            assert told[name] == [f"line {n}" for n in range(1, len(told[name]))] + ["last"], name
            assert shown[name] == told[name], name
        self.done["breaks of logs"] = err.decode().count("the connection broke")
        self.done["followed of five"] = sum(map(len, told.values()))

    async def run(self) -> None:
        """Run commands, and look for each line of each once."""
        while not self.stop.is_set():
            done = await self.ol.run("sh", "-c", RUN, tags={"by": "run"})
            assert (done.exit_code, done.reason) == (7, "exited")
            assert done.stdout.split("\n") == [f"out {n}" for n in SIDES]
            assert done.stderr.split("\n") == [f"err {n}" for n in SIDES]
            self.done["runs"] += 1

    async def start(self) -> None:
        """Start processes, which are counted at the end."""
        while not self.stop.is_set():
            process = await self.ol.start("true", tags={"by": "start"})
            await process.wait(DEADLINE_S)
            self.done["starts"] += 1

    async def search(self) -> None:
        """Search, and look for each needle once in each search."""
        await self.ol.run("sh", "-c", f"for i in $(seq {NEEDLES}); do echo needle $i; done")
        while not self.stop.is_set():
            matches = [match.line async for match in self.ol.search("needle", order="oldest")]
            assert matches == [f"needle {n}" for n in range(1, NEEDLES + 1)]
            self.done["searches"] += 1

    async def write(self) -> None:
        """Write numbers to a process: each that is confirmed comes once, any other at most once."""
        cat = await self.ol.start("cat", stdin="pipe")
        unknown, confirmed = set(), set()
        for number in itertools.count(1):
            if self.stop.is_set():
                break
            try:
                await cat.send(f"{number}\n")
                confirmed.add(number)
            except Interrupted:
                unknown.add(number)
            await asyncio.sleep(0.005)
        await cat.close_stdin()
        came = [int(line.text) async for line in cat.follow() if isinstance(line, Line)]
        assert came == sorted(set(came))
        assert confirmed <= set(came) <= confirmed | unknown
        self.done["written"] = len(came)

    async def listen(self) -> None:
        """Listen to all events from the first to that of a process that is started at the end."""
        events: list[Event] = []
        async with contextlib.aclosing(self.ol.events(on_reconnect=self.reconnects.append)) as found:
            async for event in found:
                assert isinstance(event, Event)
                events.append(event)
                if event.type == "exited" and event.tags == {"by": "end"}:
                    break
        ids = [event.id for event in events]
        assert ids == sorted(set(ids))
        told = Counter((event.process_id, event.run, event.type) for event in events)
        assert set(told.values()) == {1}
        ends = {event.process_id for event in events if event.type == "exited"}
        assert ends == {process.id async for process in self.ol.processes() if not process.info.is_running}
        self.done["events"] = len(events)


async def kill(work: Work, daemon: Daemon, times: int, rng: random.Random) -> None:
    """Kill the daemon again and again, at random moments, each after one of the jobs has come further."""
    for _ in range(times):
        job = rng.choice(["runs", "starts", "searches"])
        had = work.done[job]
        await eventually(lambda job=job, had=had: work.done[job] > had, job)  # type: ignore[misc]
        await asyncio.sleep(rng.uniform(0, 0.1))
        await daemon.kill()
        await asyncio.sleep(rng.uniform(0, 0.05))
        await daemon.start()


async def work_through(ol: AsyncOutlast, daemon: Daemon, folder: Path, kills: int) -> Counter[str]:
    """Do everything while the daemon is killed, and return what was done."""
    work = Work(ol, daemon, folder)
    jobs: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (work.run, work.start, work.search, work.write)
    listening = asyncio.create_task(work.listen())
    following = [asyncio.create_task(work.follow()), asyncio.create_task(work.follow_five())]
    await asyncio.wait_for(work.five.wait(), DEADLINE_S)
    working = [asyncio.create_task(job()) for job in jobs]
    try:
        await kill(work, daemon, kills, random.Random(kills))
        work.stop.set()
        async with asyncio.timeout(4 * DEADLINE_S):
            await asyncio.gather(*working)
            (folder / "stop").touch()
            await asyncio.gather(*following)
            await ol.run("true", tags={"by": "end"})
            await listening
    finally:
        (folder / "stop").touch()
        for task in (*working, *following, listening):
            task.cancel()
    for tag, count in (("run", work.done["runs"]), ("start", work.done["starts"])):
        assert len([process async for process in ol.processes(tags={"by": tag})]) == count
    assert len(work.reconnects) >= kills  # two streams: each breaks at nearly every kill
    return work.done


@pytest.mark.slow
async def test_a_client_loses_and_repeats_nothing_over_kills(ol: AsyncOutlast, daemon: Daemon, tmp_path: Path) -> None:
    done = await work_through(ol, daemon, tmp_path, kills=6)
    assert min(done.values()) > 0


@pytest.mark.long
async def test_a_client_loses_and_repeats_nothing_over_a_hundred_kills(
    ol: AsyncOutlast, daemon: Daemon, tmp_path: Path
) -> None:
    done = await work_through(ol, daemon, tmp_path, kills=100)
    assert min(done.values()) > 20

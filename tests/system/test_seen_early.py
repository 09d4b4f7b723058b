"""Followers see lines before they are stored. What they have seen is never contradicted, whatever dies."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import BROKEN, Event, HttpClient
from outlast.failpoints import VARIABLE
from outlast.model.output import MAX_UNSTORED_LINES
from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, left_over, shim_pid, wait_until_gone
from tests.support.faulty import FaultyStore
from tests.support.waiting import eventually

# Prints what it is told to: a line such as `2two` goes to stream 2 as `two`, `/` stands for a line break.
SAY = """
import os, sys
for line in sys.stdin:
    os.write(int(line[0]), line[1:-1].replace("/", "\\n").encode())
"""

LINES = 60
BOTH = f"""
import os, time
for number in range({LINES}):
    os.write(1 + number % 2, b"%d\\n" % number)
    time.sleep(0.02)
input()
"""


@pytest.fixture
def store(tmp_path: Path, state_dir: Path) -> FaultyStore:
    return FaultyStore(tmp_path, state_dir)


@pytest.fixture
async def daemon(state_dir: Path, store: FaultyStore) -> AsyncIterator[Daemon]:
    """A daemon whose store stands still on command, and which may be killed."""
    daemon = Daemon(state_dir, **store.environment)
    await daemon.start()
    try:
        yield daemon
    finally:
        store.mend()
        await daemon.end_everything()
        assert not left_over(state_dir)


class Follower:
    """A follower whose connection stays open, and what it has seen over all connections."""

    def __init__(self, daemon: Daemon, process: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self._daemon = daemon
        self._process = process
        self._task = asyncio.create_task(self._read({}))

    async def _read(self, headers: dict[str, str]) -> None:
        async for event in self._daemon.follow(self._process, **headers):
            self.events.append(event)

    async def sees(self, *lines: str) -> None:
        """Wait until these are the lines that it has seen."""
        await eventually(lambda: self.lines == list(lines), f"{lines}, not {self.lines}")

    @property
    def lines(self) -> list[str]:
        return [event.data["line"] for event in self.events if event.kind == "output"]

    async def reconnect(self) -> None:
        """Connect again with the last id."""
        await self.hang_up()
        self._task = asyncio.create_task(self._read({"Last-Event-ID": str(self.events[-1].id)}))

    async def hang_up(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task


async def say(daemon: Daemon, process: dict[str, Any], *words: str) -> None:
    """Let the process print. Each word is read by the shim before the next is printed."""
    for word in words:
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=f"{word}\n".encode())
        await asyncio.sleep(0.02)


async def followed(daemon: Daemon, **fields: Any) -> tuple[dict[str, Any], Follower]:
    """Start a process and a follower that has seen its first line, which is stored."""
    process = await daemon.python(SAY, stdin_mode="pipe", **fields)
    await say(daemon, process, "1first/")
    await daemon.wait_for_lines(process, 1)
    follower = Follower(daemon, process)
    await follower.sees("first\n")
    return process, follower


async def seen_and_not_stored(daemon: Daemon, store: FaultyStore) -> tuple[dict[str, Any], Follower]:
    """Follow a process of whose four lines the last three are seen, and not stored, because the store stands still."""
    process, follower = await followed(daemon)
    store.inject(Mode.STALL)
    await say(daemon, process, "1one/", "2two/", "1three/")
    await follower.sees("first\n", "one\n", "two\n", "three\n")
    return process, follower


def stored(daemon: Daemon) -> list[tuple[Any, ...]]:
    return daemon.sql("SELECT seq, line FROM output_lines ORDER BY seq")


async def replay(daemon: Daemon, process: dict[str, Any], count: int) -> list[Event]:
    events = []
    async with contextlib.aclosing(daemon.follow(process)) as following:
        async for event in following:
            events.append(event)
            if len(events) == count:
                break
    return events


async def test_a_store_that_stands_still_delays_no_follower(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await seen_and_not_stored(daemon, store)
    assert stored(daemon) == [(1, "first")]
    store.mend()
    await daemon.wait_for_lines(process, 4)
    assert stored(daemon) == [(1, "first"), (2, "one"), (3, "two"), (4, "three")]
    assert await replay(daemon, process, 4) == follower.events
    await follower.hang_up()


async def test_a_late_follower_gets_what_is_stored_and_then_what_is_not(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await seen_and_not_stored(daemon, store)
    assert await replay(daemon, process, 4) == follower.events
    errors = daemon.follow(process, "stderr")
    assert await anext(errors) == follower.events[2]
    await errors.aclose()
    await follower.hang_up()


async def test_the_next_daemon_gives_the_same_numbers_and_times(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await followed(daemon)
    store.inject(Mode.STALL)
    await say(daemon, process, "1zero/")
    await asyncio.sleep(0.5)  # no part of a line is cut any more: the store is behind
    await say(daemon, process, "1o", "2two/", "1ne/", "1thr", "2four/fi")
    await follower.sees("first\n", "zero\n", "two\n", "one\n", "four\n")
    await daemon.kill()
    store.mend()
    await daemon.start()
    await follower.reconnect()
    await say(daemon, process, "1ee/", "2ve/")
    await daemon.wait_for_lines(process, 7)
    await eventually(lambda: "".join(follower.lines).endswith("ve\n"))
    everything = await replay(daemon, process, len(follower.events))
    assert everything == follower.events
    assert [event.id for event in everything] == list(range(1, len(everything) + 1))
    assert await daemon.lines(process) == ["first", "zero", "two", "one", "four", "three", "five"]
    await follower.hang_up()


async def test_a_stream_of_several_processes_shows_the_same_over_a_kill(daemon: Daemon, store: FaultyStore) -> None:
    """The stream is fed before the commit, too, and its id resumes behind lines that no store has."""
    processes = [await daemon.python(SAY, stdin_mode="pipe", tags={"team": "a"}) for _ in range(2)]
    events: list[Event] = []

    async def read(**headers: str) -> None:
        async with HttpClient(daemon.url, daemon.token) as client:  # the daemon's own hangs up when it is killed
            async for event in client.follow("/output/follow?tag=team:a", headers=headers):
                events.append(event)  # noqa: PERF401 - each is looked at when it comes

    def shown() -> list[tuple[str, int, str]]:
        lines = [event.data for event in events if event.kind == "output"]
        return [(data["process_id"], data["seq"], data["line"]) for data in lines]

    one, two = (process["id"] for process in processes)
    following = asyncio.create_task(read())
    await say(daemon, processes[0], "1first/")
    await daemon.wait_for_lines(processes[0], 1)
    store.inject(Mode.STALL)
    await say(daemon, processes[1], "1a/")
    await say(daemon, processes[0], "2b/")
    expected = [(one, 1, "first\n"), (two, 1, "a\n"), (one, 2, "b\n")]
    await eventually(lambda: shown() == expected)
    assert stored(daemon) == [(1, "first")]
    await daemon.kill()
    with contextlib.suppress(*BROKEN):
        await following
    store.mend()
    await daemon.start()
    following = asyncio.create_task(read(**{"Last-Event-ID": events[-1].id_text}))
    await say(daemon, processes[1], "1c/")
    await eventually(lambda: shown() == [*expected, (two, 2, "c\n")])
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_next_run_passes_over_numbers_that_may_have_been_seen(daemon: Daemon, store: FaultyStore) -> None:
    """Both die, so lines that were seen are lost: the gap says so, and their numbers never mean other lines."""
    process, follower = await followed(daemon, name="said", restart={"policy": "always"})
    store.inject(Mode.STALL)
    await say(daemon, process, "1one/", "2two/")
    await follower.sees("first\n", "one\n", "two\n")
    await kill_both(daemon)
    store.mend()
    await daemon.start()
    await follower.reconnect()
    await eventually(lambda: len(follower.events) >= 5)
    gaps = follower.events[3:]
    assert [(gap.kind, gap.data["reason"]) for gap in gaps] == [("gap", "lost")] * 2
    assert gaps[0].id == 1 + MAX_UNSTORED_LINES + 1

    async def runs_again() -> bool:
        now = await daemon.get(process)
        return bool(now["run"] == 2 and now["status"] == "running")

    await eventually(runs_again)
    await say(daemon, process, "1again/")
    await follower.sees("first\n", "one\n", "two\n", "again\n")
    first = 1 + MAX_UNSTORED_LINES
    assert [event.id for event in await replay(daemon, process, 4)] == [1, first + 1, first + 2, first + 3]
    await follower.hang_up()


async def kill_both(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await daemon.kill()
    await wait_until_gone(shim)


@pytest.mark.parametrize("point", ["event-sent", "before-commit"])
async def test_kills_between_the_delivery_and_the_commit(state_dir: Path, point: str) -> None:
    daemon = Daemon(state_dir, **{VARIABLE: f"{point}:6"})
    await daemon.start()
    process = await daemon.python(BOTH, stdin_mode="pipe")
    follower = Follower(daemon, process)
    try:
        await daemon.died()
        await follower.hang_up()
        await daemon.start()
        await daemon.wait_for_lines(process, LINES)
        everything = await replay(daemon, process, LINES)
        assert [event.data["line"] for event in everything] == [f"{number}\n" for number in range(LINES)]
        assert follower.events == everything[: len(follower.events)]
        assert follower.events or point == "before-commit"
    finally:
        await daemon.end_everything()
    assert not left_over(state_dir)


async def test_a_part_and_what_is_behind_it_is_seen_once_the_part_is_stored(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await followed(daemon)
    store.inject(Mode.STALL)
    await say(daemon, process, "1name? ")
    await asyncio.sleep(0.3)  # it is cut after 150 ms
    await say(daemon, process, "2busy/", "1me/")
    assert follower.lines == ["first\n"]
    store.mend()
    await follower.sees("first\n", "name? ", "busy\n", "me\n")
    await daemon.wait_for_lines(process, 3)
    assert await replay(daemon, process, 4) == follower.events
    await follower.hang_up()


async def test_a_line_that_wait_has_answered_for_is_stored(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await followed(daemon)
    store.inject(Mode.STALL)
    await say(daemon, process, "1ready/")
    await follower.sees("first\n", "ready\n")
    path = f"/processes/{process['id']}/wait?until=output&pattern=ready"
    answer = await daemon.call("GET", f"{path}&timeout=1", 200)
    assert (answer["met"], answer["reason"]) == (False, "timeout")
    waiting = asyncio.create_task(daemon.call("GET", path, 200))
    await asyncio.sleep(0.1)
    store.mend()
    answer = await waiting
    assert (answer["met"], answer["seq"], stored(daemon)) == (True, 2, [(1, "first"), (2, "ready")])
    await follower.hang_up()


async def test_what_a_follower_has_seen_every_later_list_and_search_has(daemon: Daemon) -> None:
    process, follower = await followed(daemon)
    for number in range(20):
        await say(daemon, process, f"1{number}/")
        await follower.sees("first\n", *(f"{seen}\n" for seen in range(number + 1)))
        assert (await daemon.lines(process))[-1] == str(number)
    found = await daemon.call("GET", "/search?q=19", 200)
    assert [match["line"] for match in found["matches"]] == ["19"]
    await follower.hang_up()


async def test_a_list_has_what_a_follower_sees_that_came_later(daemon: Daemon, store: FaultyStore) -> None:
    process = await daemon.python(SAY, stdin_mode="pipe")
    await say(daemon, process, "1first/")
    await daemon.wait_for_lines(process, 1)
    store.inject(Mode.STALL)
    await say(daemon, process, "1one/", "2two/")
    follower = Follower(daemon, process)
    await follower.sees("first\n", "one\n", "two\n")
    asyncio.get_running_loop().call_later(0.2, store.mend)
    assert await daemon.lines(process) == ["first", "one", "two"]
    await follower.hang_up()


async def test_a_list_of_the_next_daemon_has_what_a_follower_has_seen(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await followed(daemon)
    store.inject(Mode.STALL)
    await say(daemon, process, "1one/", "2two/", "1thr")
    await follower.sees("first\n", "one\n", "two\n")
    await daemon.kill()
    store.inject(Mode.SLOW, delay_s=0.2)
    await daemon.start()
    assert (await daemon.lines(process))[:3] == ["first", "one", "two"]
    await follower.hang_up()


async def test_what_the_store_rejects_comes_again_under_its_number(daemon: Daemon, store: FaultyStore) -> None:
    process, follower = await followed(daemon)
    store.inject(Mode.REFUSE, handle=1)
    await say(daemon, process, "1one/")
    await follower.sees("first\n", "one\n")
    await eventually(lambda: "rejects a change" in daemon.log)
    await say(daemon, process, "2two/")
    store.mend()
    await follower.sees("first\n", "one\n", "two\n")
    assert await replay(daemon, process, 3) == follower.events
    await follower.hang_up()

"""Starts that are requested together are forked together; each gets its own answer."""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.model.output import Position, Stream
from outlast.shimlink import HeldProcess, ShimLink, Spawned, SpawnRefused, connect_or_start
from outlast.wire.contract import STAGES, Command, Stage
from tests.support.waiting import eventually

LIMITS = {"limit_bytes": 1 << 20, "memory_bytes": 1 << 20, "spool_bytes": 1 << 20}
COUNT = 40


class Events:
    """An owner of a link that notes what the shim reports."""

    def __init__(self) -> None:
        self.failed: dict[int, int] = {}
        self.exited: dict[int, int] = {}
        self.output: dict[int, tuple[Stream, int, int, int]] = {}

    def on_attached(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        pass

    def on_started(self, slot: int, deadline_ms: int | None) -> None:
        pass

    def on_failed(self, slot: int, stage: int, errno: int) -> None:
        assert stage == Stage.EXEC
        self.failed[slot] = errno

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, size: int) -> None:
        if size:
            self.output[slot] = stream, ts_ms, offset, size

    def on_segment(self, slot: int, stream: Stream, start: int, fd: int) -> None:
        raise AssertionError((slot, stream, start, fd))  # only a system that frees no part of a file needs it

    def on_exited(self, slot: int, how: Mapping[str, int]) -> None:
        self.exited[slot] = how["code"]

    def on_stdin_closed(self, slot: int) -> None:
        pass

    def on_described(self, record: Mapping[str, Any], held: HeldProcess) -> bool:
        raise AssertionError(record, held)

    def on_link_lost(self) -> None:
        raise AssertionError


def command(number: int) -> Command:
    """Return a command. Of four, one asks for an impossible limit and one cannot be run."""
    return Command(
        argv=["no-such-command"] if number % 4 == 2 else ["sh", "-c", f"printf {number}; exit {number}"],
        env={"PATH": os.environ["PATH"]},
        working_dir="/",
        stdin=False,
        stdout=True,
        stderr=number % 2 == 0,
        uid=None,
        gid=None,
        groups=None,
        timeout_ms=None,
        nice=None,
        limits={"memory_bytes": -5} if number % 4 == 1 else {},
    )


async def start_together(link: ShimLink) -> list[Spawned | BaseException]:
    os.kill(link.shim_pid, signal.SIGSTOP)  # when it runs again, it reads all requests at once
    try:
        starts = [asyncio.create_task(link.spawn({"id": f"P{n}"}, command(n), Position())) for n in range(COUNT)]
        await asyncio.sleep(0)  # all requests are sent
    finally:
        os.kill(link.shim_pid, signal.SIGCONT)
    return await asyncio.gather(*starts, return_exceptions=True)


async def check(link: ShimLink, events: Events) -> None:
    spawned = {}
    for number, answer in enumerate(await start_together(link)):
        if number % 4 == 1:
            assert isinstance(answer, SpawnRefused)
            assert STAGES[answer.stage] == "memory_bytes"
        else:
            assert not isinstance(answer, BaseException)
            spawned[number] = answer
            link.attach(answer.slot, Position())
    missing = [answer.slot for number, answer in spawned.items() if number % 4 == 2]
    runs = {answer.slot: number for number, answer in spawned.items() if number % 4 != 2}
    await eventually(
        lambda: len(events.failed) == len(missing) and len(events.exited) == len(events.output) == len(runs)
    )
    assert events.failed == dict.fromkeys(missing, errno.ENOENT)
    assert events.exited == runs
    for answer in spawned.values():
        if answer.slot in runs:
            assert answer.held.read(*events.output[answer.slot]) == b"%d" % runs[answer.slot]
        answer.held.close()
        link.forget(answer.slot)


async def test_each_of_many_starts_gets_its_own_answer(tmp_path: Path) -> None:
    events = Events()
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    link = await connect_or_start(state_dir, events, LIMITS)
    try:
        await check(link, events)
        assert await link.end_shim()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(link.shim_pid, signal.SIGKILL)
        link.close()

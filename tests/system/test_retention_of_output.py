"""Retention of output: a limit holds while processes print, and each follower hears of what is gone."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.http_client import Event, SseError
from outlast.failpoints import VARIABLE
from tests.support.daemon import Daemon
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import DEADLINE_S, eventually
from tests.system.test_events import stored
from tests.system.test_retention import OFTEN, run_to_end, start_with, wait_for_handles

MIB = 1 << 20
_FLOOD = """
import os, sys
for n in range(int(sys.argv[1])):
    os.write(1, b"%d " % n + os.urandom(500).hex().encode() + b"\\n")
"""
"""A flood that does not shrink much: a line a kibibyte."""

_SMALL_FILES = """
    import outlast.storage.sqlite.maintenance.checkpoint as checkpoint
    import outlast.storage.sqlite.maintenance.reclamation as reclamation
    checkpoint.WAL_LIMIT_BYTES = reclamation.FREE_BYTES_KEPT = 1 << 20
"""
"""Another patch: the log and the free pages of the store take a mebibyte each."""


@pytest.fixture
async def keeper(state_dir: Path) -> AsyncIterator[Daemon]:
    """Yield a daemon that looks often, and is not started."""
    daemon = patched_daemon(state_dir, OFTEN + _SMALL_FILES)
    try:
        yield daemon
    finally:
        await daemon.end_everything()


async def flooded(daemon: Daemon, lines: int, **fields: Any) -> dict[str, Any]:
    """Run a flood to its end."""
    return await daemon.ended(await daemon.python(_FLOOD, str(lines), **fields))


def held(daemon: Daemon, process: dict[str, Any]) -> int:
    """Return the bytes on the disk that a process holds."""
    with contextlib.closing(sqlite3.connect(daemon.state_dir / "outlast.db")) as db:
        row = db.execute("SELECT bytes FROM holding WHERE handle = ?", (process["handle"],)).fetchone()
        return row[0] if row else 0


def store_bytes(daemon: Daemon) -> int:
    """Return the size of the database and its log."""
    files = (daemon.state_dir / name for name in ("outlast.db", "outlast.db-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


@dataclass
class Follower:
    """A follower of a flood, for which each event continues where the last one ended.

    Attributes:
        last: id of the last event.
        lines: number of lines.
        gaps: number of gaps.
    """

    daemon: Daemon
    process: dict[str, Any]
    last: int = 0
    lines: int = 0
    gaps: int = 0

    async def follow(self, pause_s: float = 0.0) -> bool:
        """Follow over one connection. Return whether it has led to the end."""
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, RuntimeError, SseError):
            async for event in self.daemon.follow(self.process, "output", f"?after={self.last}"):
                if event.kind == "eof":
                    return True
                self._check(event)
                if pause_s:
                    await asyncio.sleep(pause_s)
        return False

    def _check(self, event: Event) -> None:
        assert event.id is not None
        if event.kind == "gap":
            gap = {name: event.data[name] for name in ("from", "to", "reason")}
            assert gap == {"from": self.last + 1, "to": event.id, "reason": "retention"}
            self.gaps += 1
        else:
            assert event.id == self.last + 1
            assert event.data["line"].startswith(f"{event.id - 1} ")
            self.lines += 1
        self.last = event.id


async def test_a_flood_stays_within_the_limit_of_a_process(keeper: Daemon) -> None:
    await start_with(keeper, keep_process_bytes=4 * MIB)
    process = await keeper.python(_FLOOD, "120000")
    fast, slow = Follower(keeper, process), Follower(keeper, process)
    both = [asyncio.create_task(fast.follow()), asyncio.create_task(slow.follow(pause_s=0.05))]
    sizes = [store_bytes(keeper)]
    while (await keeper.get(process))["status"] == "running":
        sizes.append(store_bytes(keeper))
    late = Follower(keeper, process)
    assert await late.follow()
    assert late.gaps >= 1

    async def is_small() -> bool:
        return held(keeper, process) <= 4 * MIB

    await eventually(is_small, "the end of the trimming")
    shown = await keeper.get(process)
    assert shown["output"]["last_seq"] == 120_000
    assert shown["output"]["lines"] + shown["output"]["trimmed"]["lines"] == 120_000
    assert late.lines < 30_000
    for task in both:
        task.cancel()
    await asyncio.wait(both)
    assert slow.lines > 0
    assert await slow.follow()
    assert slow.gaps >= 1
    assert fast.lines > slow.lines
    assert max(sizes) <= 40 * MIB, "without a limit, it would be 65 MiB"
    events = await stored(keeper, f"?process={process['id']}&type=trimmed")
    assert 1 <= len(events) <= 3


async def test_a_noisy_process_pushes_out_only_itself(keeper: Daemon) -> None:
    await start_with(keeper, keep_total_bytes=4 * MIB)
    quiet = await flooded(keeper, 500)
    noisy = await flooded(keeper, 10000)

    async def is_small() -> bool:
        return held(keeper, quiet) + held(keeper, noisy) <= 4 * MIB

    await eventually(is_small, "the end of the trimming")
    assert (await keeper.get(quiet))["output"]["trimmed"] is None
    assert len(await keeper.lines(quiet)) == 500
    noisy = await keeper.get(noisy)
    assert noisy["output"]["trimmed"]["lines"] + noisy["output"]["lines"] == 10000
    assert noisy["output"]["lines"] > 1000


async def test_a_limit_may_be_lowered(keeper: Daemon) -> None:
    await start_with(keeper, keep_total_bytes=0)
    processes = [await flooded(keeper, 2000) for _ in range(3)]
    running = await keeper.sh("echo first; exec sleep 1000")
    await keeper.wait_for_lines(running, 1)
    await start_with(keeper, keep_total_bytes=MIB)

    async def is_small() -> bool:
        return sum(held(keeper, process) for process in processes) <= MIB

    await eventually(is_small, "the end of the trimming")
    for process in processes:
        assert (await keeper.get(process))["output"]["trimmed"]["lines"] > 0
        assert await Follower(keeper, process).follow()
    assert await keeper.lines(running) == ["first"], "what is small goes last"
    assert "at most 1 MiB of output are kept" in keeper.log
    # The trimming goes on to 90 % of the limit, and is told then.
    await eventually(lambda: "MiB of output by keep_total_bytes" in keeper.log)


async def test_a_start_may_say_what_is_kept(keeper: Daemon) -> None:
    await start_with(keeper, keep_process_bytes=MIB, keep_total_bytes=2 * MIB, keep_ended_s=1)
    always = await flooded(keeper, 4000, keep="always")
    all_of_it = await flooded(keeper, 4000, keep={"bytes": 0, "ended_s": 0})
    less = await flooded(keeper, 4000, keep={"bytes": 800_000, "ended_s": 0})

    async def is_small() -> bool:
        return held(keeper, less) <= 800_000 and held(keeper, always) <= MIB

    await eventually(is_small, "the end of the trimming")
    plain = await flooded(keeper, 10)

    async def is_purged() -> bool:
        return [event["process_id"] for event in await stored(keeper, "?type=purged")] == [plain["id"]]

    await eventually(is_purged, "the purge of the process without a wish of its own")
    assert (await keeper.get(always))["output"]["lines"] > 500, "only the limit of a process counts"
    assert held(keeper, all_of_it) <= 2 * MIB


async def test_old_output_goes_and_young_stays(keeper: Daemon) -> None:
    await start_with(keeper, keep_output_s=3600)
    process = await keeper.sh("echo old; read x; echo young; exec sleep 1000", stdin_mode="pipe")
    await keeper.wait_for_lines(process, 1)
    await keeper.stop()
    with contextlib.closing(sqlite3.connect(keeper.state_dir / "outlast.db")) as db, db:
        db.execute("UPDATE output_chunk SET ts = ts - 3600000, latest_ts = latest_ts - 3600000")
        db.execute("UPDATE holding SET oldest_ts = oldest_ts - 3600000")
    await keeper.start()

    async def is_gone() -> bool:
        return (await keeper.get(process))["output"]["trimmed"] is not None

    await eventually(is_gone, "the old line")
    await keeper.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await keeper.wait_for_lines(process, 1)
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(keeper.follow(process)) as events:
        gap, line = await anext(events), await anext(events)
    assert (gap.kind, gap.id, line.id, line.data["line"]) == ("gap", 1, 2, "young\n")


async def test_old_events_go_and_followers_hear_of_it(keeper: Daemon) -> None:
    await start_with(keeper, keep_events_s=3600)
    for _ in range(3):
        await keeper.ended(await keeper.run("true"))
    events = await stored(keeper)
    await keeper.stop()
    with contextlib.closing(sqlite3.connect(keeper.state_dir / "outlast.db")) as db, db:
        db.execute(
            "UPDATE event SET ts = ts - 3600000, latest_ts = latest_ts - 3600000 WHERE id <= ?", (events[2]["id"],)
        )
    await keeper.start()

    async def are_gone() -> bool:
        return len(await stored(keeper)) == len(events) - 2  # and the gap

    await eventually(are_gone, "the old events")
    gap = {"from": 1, "to": events[2]["id"], "reason": "retention"}
    assert await stored(keeper) == [{"id": gap["to"], "gap": gap}, *events[3:]]
    assert await stored(keeper, f"?after={events[2]['id']}") == events[3:]
    assert (await stored(keeper, f"?after={events[0]['id']}&type=exited"))[0]["gap"]["from"] == events[0]["id"] + 1


_ENDLESS = """
import os, sys, time
n = 0
while not os.path.exists(sys.argv[1]):
    os.write(1, b"".join(b"%d " % (n + k) + os.urandom(500).hex().encode() + b"\\n" for k in range(50)))
    n += 50
    time.sleep(0.005)
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inside-trim", "inside-trim-deletion", "after-trim-deletion"])
async def test_kills_during_trims_leave_no_silent_hole(keeper: Daemon, tmp_path: Path, point: str) -> None:
    await start_with(keeper, keep_process_bytes=MIB)
    process = await keeper.python(_ENDLESS, str(tmp_path / "enough"))
    follower = Follower(keeper, process)
    for count in (1, 2, 5):
        await keeper.stop()
        keeper.environment[VARIABLE] = f"{point}:{count}"
        await keeper.launch()
        is_up = bool(await keeper.announcement())  # else what the last daemon has begun is finished, and killed, before
        following = asyncio.create_task(follower.follow()) if is_up else None
        await keeper.died()
        assert following is None or not await following
        await keeper.start()
    (tmp_path / "enough").touch()
    assert await follower.follow()
    late = Follower(keeper, process)
    assert await late.follow()
    assert late.last == follower.last
    assert late.gaps >= 1
    output = (await keeper.get(process))["output"]
    assert output["last_seq"] == output["lines"] + output["trimmed"]["lines"] == follower.last


@pytest.mark.long
async def test_a_long_flood_stays_within_the_limit(state_dir: Path) -> None:
    daemon = Daemon(state_dir)
    try:
        limit = 128 * MIB
        await start_with(daemon, keep_process_bytes=limit)
        process = await daemon.python(_FLOOD, "1500000")
        follower = Follower(daemon, process)
        following = asyncio.create_task(follower.follow())
        sizes = [0]
        while (await daemon.get(process))["status"] == "running":
            sizes.append(store_bytes(daemon))
            await asyncio.sleep(0.05)
        assert await following
        assert max(sizes) <= 1.15 * limit + 2 * 64 * MIB, "the limit, and the log, which may exceed its own a little"
        assert follower.last == 1_500_000
    finally:
        await daemon.end_everything()


_TORRENT = """
import os, sys
noise = [os.urandom(480).hex().encode() for _ in range(1000)]
n = 0
while not os.path.exists(sys.argv[1]):
    os.write(1, b"".join(b"%d %s\\n" % (n + k, noise[(n * n + k * k) % 1000]) for k in range(60)))
    n += 60
"""
"""Lines of nearly a kibibyte, as fast as they are read, until a file exists."""

_QUIET = """
import os, sys, time
n = 0
while not os.path.exists(sys.argv[1]):
    print(n, "a line of somebody quiet", flush=True)
    n += 1
    time.sleep(0.1)
"""


@dataclass
class _Peaks:
    """The most that was seen: bytes of output on the disk, and of the store's files."""

    held: int = 0
    stored: int = 0


async def _flooded_peaks(daemon: Daemon, enough: Path, seconds: float) -> _Peaks:
    """Let two processes flood the store beside a quiet one, with a follower, and check what is left of them."""
    floods = [await daemon.python(_TORRENT, str(enough)) for _ in range(2)]
    quiet = await daemon.python(_QUIET, str(enough))
    follower, peaks, ends_at = Follower(daemon, floods[0]), _Peaks(), time.monotonic() + seconds
    following = asyncio.create_task(follower.follow())
    while time.monotonic() < ends_at:
        peaks.held = max(peaks.held, sum(held(daemon, process) for process in (*floods, quiet)))
        peaks.stored = max(peaks.stored, store_bytes(daemon))
        await asyncio.sleep(0.02)
    enough.touch()
    assert await asyncio.wait_for(following, 10 * DEADLINE_S)
    for flood in floods:
        shown = await daemon.ended(flood)
        late = Follower(daemon, flood)
        assert await late.follow()
        assert late.gaps >= 1
        output = (await daemon.get(shown))["output"]
        assert output["last_seq"] == output["lines"] + output["trimmed"]["lines"] == late.last
    shown = await daemon.ended(quiet)
    assert (shown["output"]["trimmed"], shown["output"]["lines"]) == (None, shown["output"]["last_seq"])
    return peaks


@pytest.mark.slow
async def test_floods_stay_within_the_limit_of_all_output(keeper: Daemon, tmp_path: Path) -> None:
    limit = 4 * MIB
    await start_with(keeper, keep_total_bytes=limit)
    peaks = await _flooded_peaks(keeper, tmp_path / "enough", 5)
    assert peaks.held <= limit + 20 * MIB, "and what they write during a step"
    assert peaks.stored <= limit + 40 * MIB


@pytest.mark.long
async def test_floods_stay_within_the_limit_of_all_output_for_ten_minutes(state_dir: Path, tmp_path: Path) -> None:
    daemon = Daemon(state_dir)
    try:
        limit = 256 * MIB
        await start_with(daemon, keep_total_bytes=limit)
        peaks = await _flooded_peaks(daemon, tmp_path / "enough", 600)
        assert peaks.held <= limit + 32 * MIB, "and what they write during a step"
        assert peaks.stored <= 1.15 * limit + 2 * 64 * MIB, "the limit, and the log, which may exceed its own a little"
    finally:
        await daemon.end_everything()


async def test_a_flood_delays_no_purge(keeper: Daemon, tmp_path: Path) -> None:
    await start_with(keeper, keep_process_bytes=MIB, keep_ended=1)
    flood = await keeper.python(_ENDLESS, str(tmp_path / "enough"))
    ended = [await run_to_end(keeper) for _ in range(3)]
    await wait_for_handles(keeper, [flood["handle"], ended[-1]["handle"]])
    (tmp_path / "enough").touch()
    await keeper.ended(flood)

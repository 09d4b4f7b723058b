"""A soak from beginning to end: calm stretches, in which figures must be flat, and between them restarts."""

import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak import footprint, report, verdict
from tests.soak.daemon_client import DaemonClient, UnexpectedResult
from tests.soak.load import Load
from tests.soak.load_switch import LoadSwitch
from tests.soak.probe import ask_daemon, environment
from tests.soak.processes import LongProcess, listener, trickler
from tests.soak.readers import Readers
from tests.soak.restarts import Restarts
from tests.soak.soak_log import SoakLog, Totals, totals_of
from tests.soak.verdict import MIB, Sample
from tests.support.daemon import Daemon, left_over
from tests.support.waiting import eventually

_STARTERS = 6
_FOLLOWERS = 4
_TRICKLERS = 6
_MINUTES_A_STORM = 10
_STORM = 0.15
_ROUNDS = 6
_LONGEST_ROUND_S = 10.0
_LOAD_LOOK_S = 1.0
_SETTLE_LOOK_S = 0.25
_SETTLE_LOOKS = 20
_HISTORY_BYTES = 6 << 20
_READS_AT_ONCE = 16
# Limits of the database file, besides the output: bytes a process, and spare for pages that are free or not full.
_ROW_BYTES = 8 << 10
_DATABASE_SPARE = 1.3
_DATABASE_SPARE_BYTES = 16 * MIB


@dataclass(frozen=True)
class Outcome:
    """Result of a soak.

    Attributes:
        problems: everything that is wrong, in sentences; empty if the soak passed.
    """

    text: str
    problems: list[str]


class Soak:
    """A soak in one state folder."""

    def __init__(self, folder: Path, *, seed: int, minutes: float) -> None:
        self._rng = random.Random(seed)
        self._daemon = Daemon(folder / "state", **environment(folder / "state"))
        self._client = DaemonClient(self._daemon)
        self._switch = LoadSwitch()
        self._log = SoakLog()
        self._restarts = Restarts(self._daemon, self._client, self._log, self._rng)
        self._load = Load(self._client, self._switch, self._log, self._rng)
        self._readers = Readers(self._client, self._switch, self._log, self._rng)
        self._longs = [*(trickler() for _ in range(_TRICKLERS)), listener()]
        self._samples: list[Sample] = []
        self._began = time.monotonic()
        self._judged = False
        self._storms = max(1, round(minutes / _MINUTES_A_STORM))
        self._storm_s = minutes * 60 * _STORM / self._storms
        self._calm_s = minutes * 60 * (1 - _STORM) / (self._storms + 1)
        self._round_s = min(_LONGEST_ROUND_S, self._calm_s / _ROUNDS)

    async def run(self) -> Outcome:
        """Run the soak, and leave nothing running."""
        try:
            await self._daemon.start()
            self._client.daemon_listens()
            await self._touch()
            before = await self._settled()
            await self._start_longs()
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(job) for job in self._jobs()]
                await self._stretches()
                for task in working:
                    task.cancel()
            await self._end_longs()
            await self._check_store()
            await self._groups_are_gone()
            after = await self._settled()
        finally:
            await self._client.disconnect()
            await self._daemon.end_everything()
        return self._outcome(before, after)

    def _jobs(self) -> list[Any]:
        return [
            *(self._load.keep_starting() for _ in range(_STARTERS)),
            self._load.flood_now_and_then(self._round_s),
            *(self._readers.keep_following(self._round_s / 4) for _ in range(_FOLLOWERS)),
            self._readers.keep_reading(),
            self._sample_under_load(),
        ]

    # ---- stretches

    async def _stretches(self) -> None:
        await self._calm()
        for _ in range(self._storms):
            await self._storm()
            await self._calm()

    async def _calm(self) -> None:
        filling = await self._load.fill()
        await self._readers.get_stuck()
        self._switch.calm = self._judged = True
        end = time.monotonic() + self._calm_s
        rounds = 0
        while time.monotonic() < end or rounds < _ROUNDS:  # a busy machine must not leave too little to judge
            rounds += 1
            await self._feed_listener()
            self._switch.turn_on()
            await asyncio.sleep(self._round_s)
            await self._switch.turn_off()
            self._take(await self._settled(), quiet=True)
        self._judged = False
        self._readers.disconnect_stuck()
        for process_id in filling:
            await self._load.purge(process_id)

    async def _storm(self) -> None:
        self._switch.calm = False
        await self._restarts.upgrade_shim()
        self._switch.turn_on()
        end = time.monotonic() + self._storm_s
        while True:
            await self._restarts.restart_all(self._round_s / 4)
            if time.monotonic() >= end:
                break
        await self._switch.turn_off()

    # ---- samples

    async def _sample_under_load(self) -> None:
        while True:
            await asyncio.sleep(_LOAD_LOOK_S)
            with contextlib.suppress(OSError, AssertionError, ValueError):  # daemon or shim is being replaced
                self._take(self._look(), quiet=False)

    def _look(self) -> dict[str, float]:
        return footprint.measure(self._daemon.state_dir, self._daemon.pid, footprint.shim_pid(self._daemon.state_dir))

    def _take(self, figures: dict[str, float], *, quiet: bool) -> None:
        lives = self._restarts.daemon_life, self._restarts.shim_life
        self._samples.append(Sample(time.monotonic() - self._began, quiet, self._judged, *lives, figures))

    async def _touch(self) -> None:
        """Make the daemon open what it opens at its first use."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_READS_AT_ONCE):
                tasks.create_task(self._client.call("GET", "/processes", 200))

    async def _settled(self) -> dict[str, float]:
        """Close our own connections, and measure when the counts are stable, or after the last try."""
        await self._client.disconnect()
        before: dict[str, float] = {}
        for _ in range(_SETTLE_LOOKS):
            figures = self._look()
            counts = {name: value for name, value in figures.items() if not verdict.is_memory(name)}
            if counts == before:
                break
            before = counts
            await asyncio.sleep(_SETTLE_LOOK_S)
        return {**figures, **await ask_daemon(self._daemon.state_dir, self._daemon.pid)}

    # ---- long processes

    async def _start_longs(self) -> None:
        for long in self._longs:
            _, raw = await self._client.call("POST", "/processes", 201, body=long.body)
            long.info = json.loads(raw)
        history = await self._load.run_flood(_HISTORY_BYTES)
        self._readers.targets = [*(long.info["id"] for long in self._longs), history]

    async def _feed_listener(self) -> None:
        long = self._longs[-1]
        line = f"round at {time.monotonic()}\n".encode()
        await self._client.call("POST", f"/processes/{long.info['id']}/stdin", 204, data=line)
        long.fed += line

    async def _end_longs(self) -> None:
        for long in self._longs:
            path = f"/processes/{long.info['id']}"
            if long.fed:
                await self._client.call("POST", f"{path}/stdin/close", 204)
            else:
                await self._client.call("POST", f"{path}/signal", 200, body={"signal": "SIGTERM"})
        for long in self._longs:
            try:
                self._log.kept[long.info["id"]] = await self._check_long(long)
            except UnexpectedResult as exc:
                self._log.report(str(exc))

    async def _check_long(self, long: LongProcess) -> Totals:
        path = f"/processes/{long.info['id']}"
        async for _ in self._client.lines(long.info["id"]):
            pass
        info = await self._client.get(path)
        out, err = await self._client.raw(f"{path}/stdout"), await self._client.raw(f"{path}/stderr")
        if long.fed:
            wanted_out, wanted_err = long.fed, b""
        else:
            count = info["output"]["lines"]
            wanted_out, wanted_err = (b"".join(b"%d\n" % i for i in range(j, count + 1, 2)) for j in (1, 2))
        ending = (0, None) if long.fed else (None, 15)
        if (out, err, (info["exit_code"], info["signal"])) != (wanted_out, wanted_err, ending):
            raise UnexpectedResult(f"long {info['id']}: {len(out)} and {len(err)} bytes, {info}")
        return totals_of(info)

    # ---- the end

    async def _check_store(self) -> None:
        """Check that the store holds all that was started and not purged, unchanged, and nothing else."""
        stored: dict[str, Totals] = {}
        path: str | None = "/processes?limit=1000"
        while path:
            page = await self._client.get(path)
            stored |= {info["id"]: totals_of(info) for info in page["processes"]}
            path = f"/processes?limit=1000&cursor={page['next']}" if page["next"] else None
        kept = self._log.kept
        for process_id in stored.keys() | kept.keys():
            if stored.get(process_id) != kept.get(process_id):
                self._log.report(f"{process_id}: stored {stored.get(process_id)}, and not {kept.get(process_id)}")
        (rows,) = self._daemon.sql("SELECT count(*), sum(ended_at IS NULL) FROM processes")
        info = await self._client.get("/info")
        told = (info["total_processes"], info["running_processes"])
        if rows != (len(kept), 0) or told != (len(kept), 0):
            self._log.report(f"of {len(kept)} processes SQL counts {rows}, /info {told}")
        await self._check_size(sum(size for _, _, size in kept.values()))

    async def _check_size(self, output_bytes: int) -> None:
        """Check that the file system got back what was purged."""
        most = _DATABASE_SPARE * output_bytes + _ROW_BYTES * len(self._log.kept) + _DATABASE_SPARE_BYTES
        try:
            await eventually(lambda: self._look()["database"] <= most, "the database shrinks", 60.0)
        except AssertionError:
            size = self._look()["database"]
            self._log.report(f"the database has {size:,.0f} bytes for {output_bytes:,} of output")

    async def _groups_are_gone(self) -> None:
        """Wait until no cgroups are left. No process runs any more."""
        with contextlib.suppress(AssertionError):  # what is left is told with the other figures
            await eventually(lambda: not footprint.groups(self._daemon.state_dir), "no cgroups", 5.0)

    def _outcome(self, before: dict[str, float], after: dict[str, float]) -> Outcome:
        rows = verdict.judge(self._samples)
        log = self._log
        problems = [*log.findings, *report.growing(rows), *verdict.left_at_the_end(before, after)]
        if log.wrong > len(log.findings):
            problems.append(f"and {log.wrong - len(log.findings)} more findings")
        judged = {row.figure for row in rows}
        problems += [f"{name} could not be judged: no life was long enough" for name in before if name not in judged]
        problems += [f"left over: {what}" for what in left_over(self._daemon.state_dir)]
        printed = self._daemon.log
        if (at := printed.find("Traceback")) >= 0:
            problems.append(f"the log has a traceback: {printed[max(0, at - 200) : at + 2000]}")
        said = "flat, and everything matches" if not problems else f"{len(problems)} PROBLEMS"
        parts = [
            report.doing(log, time.monotonic() - self._began),
            report.table(rows),
            report.idle(before, after),
            f"  verdict: {said}",
            *(f"  - {problem}" for problem in problems),
        ]
        return Outcome("\n\n".join(parts[:3]) + "\n\n" + "\n".join(parts[3:]), problems)


async def run(folder: Path, *, seed: int, minutes: float) -> Outcome:
    """Run a soak in `folder`."""
    return await Soak(folder, seed=seed, minutes=minutes).run()

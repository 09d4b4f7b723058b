"""Starts and ends of processes, several at a time, each of them checked."""

import asyncio
import contextlib
import itertools
import json
import random
from collections import deque
from typing import Any

from tests.soak.daemon_client import DaemonClient, UnexpectedResult
from tests.soak.load_switch import LoadSwitch
from tests.soak.processes import ShortProcess, choose, flood
from tests.soak.soak_log import SoakLog, expect, totals_of

_ASKED_TWICE = 0.2
_KEYED = 0.4
_COMPARED = 0.3
_PURGED = 0.35
_COMPLETE_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.03
_FLOOD_BYTES = 16 << 20
# The daemon keeps the newest output in memory, up to a bound. What fills it at the beginning of a daemon's life is no
# leak, and would take minutes: so it is filled at once.
_FILLING = 36
_FILLING_BYTES = 2_200_000
# Purged at once they would leave that memory to small ones, of which it takes thousands to fill it.
_LARGE_KEPT = 60
_FILLING_FOLLOWED = 12


class Load:
    """A load of processes that start and end."""

    def __init__(self, client: DaemonClient, switch: LoadSwitch, log: SoakLog, rng: random.Random) -> None:
        self._client = client
        self._switch = switch
        self._log = log
        self._rng = rng
        self._large: deque[str] = deque()
        self._tags = (f"p{number:x}" for number in itertools.count(1))

    async def keep_starting(self) -> None:
        """Start one short process after another, and check each."""
        while True:
            async with self._switch.load():
                short = choose(self._rng, next(self._tags), calm=self._switch.calm)
                try:
                    await self._see_through(short)
                except UnexpectedResult as exc:
                    self._log.report(str(exc))

    async def flood_now_and_then(self, every_s: float) -> None:
        """Let a process print as fast as it can, and purge it afterwards."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * every_s)
            async with self._switch.load():
                try:
                    process_id = await self.run_flood(_FLOOD_BYTES)
                    await self.purge(process_id)
                    self._log.doing["floods"] += 1
                except UnexpectedResult as exc:
                    self._log.report(str(exc))

    async def fill(self) -> list[str]:
        """Print and follow what fills the daemon's caches; return the ids of the processes."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.run_flood(_FILLING_BYTES)) for _ in range(_FILLING)]
        ids = [task.result() for task in running]
        for process_id in ids[:_FILLING_FOLLOWED]:
            await self._client.call("GET", f"/processes/{process_id}/output/follow", 200)
        return ids

    async def run_flood(self, size: int) -> str:
        """Run a process that prints `size` bytes to its end, and return its id."""
        tag = next(self._tags)
        info = await self._start(flood(tag, size), keyed=True)
        info = await self._complete(info["id"], size)
        if totals_of(info) != (0, None, size):
            raise UnexpectedResult(f"flood {info['id']}: {totals_of(info)}")
        self._log.kept[info["id"]] = totals_of(info)
        return str(info["id"])

    async def purge(self, process_id: str) -> None:
        """Delete a process and its output."""
        await self._client.call("DELETE", f"/processes/{process_id}?purge=true", 204, 404)
        self._log.kept.pop(process_id, None)
        self._log.doing["purged"] += 1

    # ---- one short process

    async def _see_through(self, short: ShortProcess) -> None:
        if not short.starts:
            await self._client.call("POST", "/processes", 422, body=short.body)
            self._log.doing["impossible"] += 1
            return
        info = await self._start(short.body, keyed=not self._switch.calm or self._rng.random() < _KEYED)
        self._log.doing["started"] += 1
        self._log.doing[short.kind] += 1
        await self._act(short, info["id"])
        if short.kind in {"bulk", "large"}:  # following thousands of lines is work for this program, not for the daemon
            await self._complete(info["id"], len(short.stdout))
        else:
            await self._follow(short, info["id"])
        info = await self._client.get(f"/processes/{info['id']}")
        totals = expect(info, short)
        if self._rng.random() < _COMPARED:
            await self._compare(short, info["id"])
        self._log.kept[info["id"]] = totals
        if short.kind == "large":
            self._large.append(info["id"])
            if len(self._large) > _LARGE_KEPT:
                await self.purge(self._large.popleft())
        elif self._rng.random() < _PURGED:
            await self.purge(info["id"])

    async def _start(self, body: dict[str, Any], *, keyed: bool) -> dict[str, Any]:
        if not keyed:
            _, raw = await self._client.call("POST", "/processes", 201, body=body)
            return dict(json.loads(raw))
        body = {**body, "idempotency_key": f"key of {next(self._tags)}"}
        _, raw = await self._client.call("POST", "/processes", 201, 200, body=body)
        if self._rng.random() < _ASKED_TWICE:
            _, again = await self._client.call("POST", "/processes", 200, body=body)
            if json.loads(again)["id"] != json.loads(raw)["id"]:
                raise UnexpectedResult(f"one idempotency_key, two processes: {raw!r}, {again!r}")
        return dict(json.loads(raw))

    async def _act(self, short: ShortProcess, process_id: str) -> None:
        path = f"/processes/{process_id}"
        if short.do == "feed":
            await self._client.call("POST", f"{path}/stdin", 204, data=short.fed)
            await self._client.call("POST", f"{path}/stdin/close", 204)
            return
        if not short.do:
            return
        async with contextlib.aclosing(self._client.lines(process_id)) as lines:
            await anext(lines)
        if short.do == "kill":
            await self._client.call("DELETE", path, 204)
        else:  # 400: it has ended by what was sent when the answer was lost
            await self._client.call("POST", f"{path}/signal", 200, 400, body={"signal": "SIGTERM"})

    async def _follow(self, short: ShortProcess, process_id: str) -> None:
        got: dict[str, list[str]] = {"stdout": [], "stderr": []}
        async for line in self._client.lines(process_id):
            got[line.stream].append(line.text + "\n" * line.complete)
        for stream, wanted in (("stdout", short.stdout), ("stderr", short.stderr)):
            if (text := "".join(got[stream])) != wanted.decode(errors="replace"):
                raise UnexpectedResult(
                    f"{short.kind} {process_id}: followed {stream} {text[:200]!r}, not {wanted[:200]!r}"
                )

    async def _compare(self, short: ShortProcess, process_id: str) -> None:
        for stream, wanted in (("stdout", short.stdout), ("stderr", short.stderr)):
            raw = await self._client.raw(f"/processes/{process_id}/{stream}")
            if raw != wanted:
                raise UnexpectedResult(f"{short.kind} {process_id}: {stream} is {raw[:200]!r}, not {wanted[:200]!r}")
        self._log.doing["compared"] += 1

    async def _complete(self, process_id: str, size: int) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_COMPLETE_WITHIN_S):
                while True:
                    info = await self._client.get(f"/processes/{process_id}")
                    if info["status"] != "running" and info["output"]["bytes"] >= size:
                        return dict(info)
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise UnexpectedResult(
                f"{process_id} has not printed {size} bytes and ended in {_COMPLETE_WITHIN_S} s"
            ) from None

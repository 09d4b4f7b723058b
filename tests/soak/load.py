"""Starts and ends of processes, several at a time, each of them checked."""

import asyncio
import contextlib
import itertools
import json
import random
from collections import deque
from typing import Any

from tests.soak.door import Door, Wrong
from tests.soak.gate import Gate
from tests.soak.kinds import Short, choose, flood
from tests.soak.ledger import Ledger, expect, totals_of

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
    """Starts processes and sees them end."""

    def __init__(self, door: Door, gate: Gate, ledger: Ledger, rng: random.Random) -> None:
        self._door = door
        self._gate = gate
        self._ledger = ledger
        self._rng = rng
        self._large: deque[str] = deque()
        self._tags = (f"p{number:x}" for number in itertools.count(1))

    async def keep_starting(self) -> None:
        """Start one short process after another, and check what becomes of it."""
        while True:
            async with self._gate.turn():
                short = choose(self._rng, next(self._tags), calm=self._gate.calm)
                try:
                    await self._see_through(short)
                except Wrong as exc:
                    self._ledger.find(str(exc))

    async def flood_now_and_then(self, every_s: float) -> None:
        """Let a process print as fast as it can, and purge it afterwards."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * every_s)
            async with self._gate.turn():
                try:
                    process_id = await self.run_flood(_FLOOD_BYTES)
                    await self.purge(process_id)
                    self._ledger.doing["floods"] += 1
                except Wrong as exc:
                    self._ledger.find(str(exc))

    async def fill(self) -> list[str]:
        """Print and follow what fills the daemon's caches; return the ids of the processes."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.run_flood(_FILLING_BYTES)) for _ in range(_FILLING)]
        ids = [task.result() for task in running]
        for process_id in ids[:_FILLING_FOLLOWED]:
            await self._door.call("GET", f"/processes/{process_id}/output/follow", 200)
        return ids

    async def run_flood(self, size: int) -> str:
        """Run a process that prints `size` bytes to its end, and return its id."""
        tag = next(self._tags)
        info = await self._start(flood(tag, size), keyed=True)
        info = await self._complete(info["id"], size)
        if totals_of(info) != (0, None, size):
            raise Wrong(f"flood {info['id']}: {totals_of(info)}")
        self._ledger.kept[info["id"]] = totals_of(info)
        return str(info["id"])

    async def purge(self, process_id: str) -> None:
        """Delete a process and its output."""
        await self._door.call("DELETE", f"/processes/{process_id}?purge=true", 204, 404)
        self._ledger.kept.pop(process_id, None)
        self._ledger.doing["purged"] += 1

    # ---- one short process

    async def _see_through(self, short: Short) -> None:
        if not short.starts:
            await self._door.call("POST", "/processes", 422, body=short.body)
            self._ledger.doing["impossible"] += 1
            return
        info = await self._start(short.body, keyed=not self._gate.calm or self._rng.random() < _KEYED)
        self._ledger.doing["started"] += 1
        self._ledger.doing[short.kind] += 1
        await self._act(short, info["id"])
        if short.kind in {"bulk", "large"}:  # following thousands of lines is work for this program, not for the daemon
            await self._complete(info["id"], len(short.stdout))
        else:
            await self._follow(short, info["id"])
        info = await self._door.get(f"/processes/{info['id']}")
        totals = expect(info, short)
        if self._rng.random() < _COMPARED:
            await self._compare(short, info["id"])
        self._ledger.kept[info["id"]] = totals
        if short.kind == "large":
            self._large.append(info["id"])
            if len(self._large) > _LARGE_KEPT:
                await self.purge(self._large.popleft())
        elif self._rng.random() < _PURGED:
            await self.purge(info["id"])

    async def _start(self, body: dict[str, Any], *, keyed: bool) -> dict[str, Any]:
        if not keyed:
            _, raw = await self._door.call("POST", "/processes", 201, body=body)
            return dict(json.loads(raw))
        body = {**body, "idempotency_key": f"key of {next(self._tags)}"}
        _, raw = await self._door.call("POST", "/processes", 201, 200, body=body)
        if self._rng.random() < _ASKED_TWICE:
            _, again = await self._door.call("POST", "/processes", 200, body=body)
            if json.loads(again)["id"] != json.loads(raw)["id"]:
                raise Wrong(f"one idempotency_key, two processes: {raw!r}, {again!r}")
        return dict(json.loads(raw))

    async def _act(self, short: Short, process_id: str) -> None:
        path = f"/processes/{process_id}"
        if short.do == "feed":
            await self._door.call("POST", f"{path}/stdin", 204, data=short.fed)
            await self._door.call("POST", f"{path}/stdin/close", 204)
            return
        if not short.do:
            return
        async with contextlib.aclosing(self._door.events(process_id)) as events:
            await anext(events)
        if short.do == "kill":
            await self._door.call("DELETE", path, 204)
        else:  # 400: it has ended by what was sent when the answer was lost
            await self._door.call("POST", f"{path}/signal", 200, 400, body={"signal": "SIGTERM"})

    async def _follow(self, short: Short, process_id: str) -> None:
        got: dict[str, list[str]] = {"stdout": [], "stderr": []}
        async for event in self._door.events(process_id):
            if event.kind == "output":
                got[event.data["stream"]].append(event.data["line"])
        for stream, wanted in (("stdout", short.stdout), ("stderr", short.stderr)):
            if (text := "".join(got[stream])) != wanted.decode(errors="replace"):
                raise Wrong(f"{short.kind} {process_id}: followed {stream} {text[:200]!r}, not {wanted[:200]!r}")

    async def _compare(self, short: Short, process_id: str) -> None:
        for stream, wanted in (("stdout", short.stdout), ("stderr", short.stderr)):
            raw = await self._door.raw(f"/processes/{process_id}/{stream}")
            if raw != wanted:
                raise Wrong(f"{short.kind} {process_id}: {stream} is {raw[:200]!r}, not {wanted[:200]!r}")
        self._ledger.doing["compared"] += 1

    async def _complete(self, process_id: str, size: int) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_COMPLETE_WITHIN_S):
                while True:
                    info = await self._door.get(f"/processes/{process_id}")
                    if info["status"] != "running" and info["output"]["bytes"] >= size:
                        return dict(info)
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise Wrong(f"{process_id} has not printed {size} bytes and ended in {_COMPLETE_WITHIN_S} s") from None

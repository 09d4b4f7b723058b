"""The starter: starts children over HTTP while daemons die, repeats unanswered starts, and feeds those that echo."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from harness.http_client import BROKEN
from outlast.client import Disconnected, OutlastError
from tests.chaos.campaign_log import CampaignLog, Record
from tests.chaos.daemon_client import DaemonClient, is_interrupted
from tests.chaos.follower import Follower
from tests.chaos.journal import now_ms
from tests.chaos.plan import Start
from tests.chaos.scripts import HAS_INPUT, RESTARTED, TERMINAL, messages
from tests.chaos.watchers import OfficialFollower, RunCaller, TerminalViewer, wait_for_exit

ROOT = Path(__file__).parents[2]
_LOOK_AGAIN_S = 0.01
_BETWEEN_MESSAGES_S = 0.05
_UNAVAILABLE = 503
_REFUSED = 400
_RESTART = {"policy": "on_failure", "initial_backoff_ms": 50, "max_backoff_ms": 500}


class Starter:
    """A starter of the children of a plan."""

    def __init__(self, client: DaemonClient, log: CampaignLog) -> None:
        self._client = client
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, start: Start) -> None:
        """Start a child, with this daemon or, if it dies too early, with a later one."""
        record = Record(start)
        self._log.records.append(record)
        self._go(self._start(record))

    async def finish(self, timeout_s: float) -> None:
        """Wait for starts, inputs and followers to come to their end, also those that begin meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._tasks:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.complaints.append(f"the campaign itself failed: {error!r}")

    # ---- starts

    async def _start(self, record: Record) -> None:
        start = self._run if record.start.is_run else self._post_start
        while True:
            await self._client.wait_for_daemon()
            await asyncio.sleep(record.start.after_s)
            record.asked_ms = record.asked_ms or now_ms()
            try:
                status, refusal = await start(record)
            except aiohttp.ClientConnectorError:  # the request was never sent
                await asyncio.sleep(_LOOK_AGAIN_S)
            except BROKEN:
                self._log.lost_answers += 1
            else:
                if status in {200, 201}:
                    return
                if status != _UNAVAILABLE:
                    self._log.complaints.append(f"start {record.start.tag} was refused: {status} {refusal}")
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _post_start(self, record: Record) -> tuple[int, str]:
        """Start a child. Return status and body of the answer."""
        answer = await self._client.request("POST", "/processes", json=self._body(record.start))
        if answer.status in {200, 201}:
            self._take(record, answer.json)
        # A start that was interrupted is repeated with its key, like one that was not done.
        status = _UNAVAILABLE if is_interrupted(answer.json) else answer.status
        return status, repr(answer.body)

    async def _run(self, record: Record) -> tuple[int, str]:
        """Run a child to its end. Return status and reason."""
        record.run_caller = record.run_caller or RunCaller()
        try:
            await record.run_caller.run(
                self._client, self._body(record.start), lambda id_: self._take(record, {"id": id_})
            )
        except Disconnected:  # no daemon was reached
            return _UNAVAILABLE, ""
        except OutlastError as exc:
            return _REFUSED, str(exc)
        return 200, ""

    def _body(self, start: Start) -> dict[str, Any]:
        managed = {"name": f"child-{start.tag}", "restart": _RESTART} if start.kind == RESTARTED else {}
        words = [str(self._log.children_dir), start.tag, str(start.seed), start.kind]
        return {
            "command": sys.executable,
            "args": ["-S", "-m", "tests.chaos.child", *words],
            "working_dir": str(ROOT),
            **({"tty": {}} if start.kind == TERMINAL else {"stdin_mode": _stdin_mode(start.kind)}),
            "tags": {"start": start.tag},
            "idempotency_key": f"{self._log.seed}-{start.tag}",
            **managed,
        }

    def _take(self, record: Record, process: dict[str, Any]) -> None:
        """Follow a child that is started. A further answer to the same start must name the same process."""
        if record.process is not None:
            if record.process["id"] != process["id"]:
                self._log.complaints.append(f"start {record.start.tag} has {process['id']}, and {record.process['id']}")
            return
        record.process = process
        for number, plan in enumerate(record.start.followers):
            follower = Follower(plan, self._log.folder / "followers" / f"{record.start.tag}-{number}")
            record.followers.append(follower)
            self._go(follower.run(self._client, process["id"]))
        if record.start.is_awaited:
            self._go(self._await_exit(record, process["id"]))
        if record.start.has_official:
            record.official = OfficialFollower()
            self._go(record.official.run(self._client, process["id"]))
        if record.start.kind == TERMINAL:
            record.viewer = TerminalViewer()
            self._go(record.viewer.run(self._client, process["id"]))
        if record.start.kind == "echo":
            self._go(self._feed(record, f"/processes/{process['id']}/stdin"))

    async def _await_exit(self, record: Record, process_id: str) -> None:
        record.awaited = await wait_for_exit(self._client, process_id)

    # ---- standard input

    async def _feed(self, record: Record, path: str) -> None:
        for message in messages(record.start.seed):
            answered = await self._post(path, message)
            record.inputs.append((message, answered == 204))
            if answered not in {None, 204, 503}:
                record.refused.append(answered)
            await asyncio.sleep(_BETWEEN_MESSAGES_S)
        record.closing_ms = now_ms()
        while True:
            if await self._post(f"{path}/close", b"") in {204, 400}:
                return
            await asyncio.sleep(_BETWEEN_MESSAGES_S)

    async def _post(self, path: str, data: bytes) -> int | None:
        """Return the status; None if nobody can know how much arrived: the answer was lost, or says so."""
        while True:
            await self._client.wait_for_daemon()
            try:
                headers = {"Content-Type": "application/octet-stream"}
                answer = await self._client.request("POST", path, data=data, headers=headers)
                return None if is_interrupted(answer.json) else answer.status
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(_LOOK_AGAIN_S)
            except BROKEN:
                return None


def _stdin_mode(kind: str) -> str:
    return "pipe" if kind in HAS_INPUT else "closed"

"""What happens to processes is told to whoever listens: each start and each end once, whatever is killed meanwhile."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from harness.http_client import BROKEN, Event, HttpClient, resume
from outlast.failpoints import VARIABLE
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

ENDS = {"exited", "lost"}


async def until(kind: str, events: AsyncGenerator[Event, None]) -> list[Event]:
    """Return the events up to the first of a kind."""
    found: list[Event] = []
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(events):
        async for event in events:
            found.append(event)
            if event.kind == kind:
                return found
    raise AssertionError(f"the stream ended after {found}")


async def stored(daemon: Daemon, query: str = "") -> list[dict[str, Any]]:
    """Read what is stored."""
    answer = await daemon.client.request("GET", f"/events{query}", headers={"Accept": "application/x-ndjson"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_what_happens_is_told_as_it_happens_and_later(daemon: Daemon) -> None:
    listening = asyncio.create_task(until("purged", daemon.client.follow("/events")))
    process = await daemon.sh("exit 3", tags={"team": "a"})
    assert await daemon.call("POST", "/processes", 422, {"command": "/no/such"})
    await daemon.ended(process)
    sleeper = await daemon.run("sleep", "1000")
    await daemon.call("DELETE", f"/processes/{sleeper['id']}?purge=true", 204)
    told = await listening
    ids = [event.id for event in told if event.id is not None]
    assert ids == sorted(set(ids))
    by_process: dict[str, list[str]] = defaultdict(list)
    for event in told:
        assert event.kind == event.data["type"]
        by_process[event.data["process_id"]].append(event.kind)
    (refused,) = by_process.keys() - {process["id"], sleeper["id"]}
    assert by_process[process["id"]] == ["started", "exited"]
    # One event stands for all of a process that is gone: a slow listener gets that alone.
    assert by_process[refused] in (["started", "failed"], ["failed"])
    assert by_process[sleeper["id"]] in (["started", "exited", "purged"], ["started", "purged"], ["purged"])

    started, ended = await stored(daemon, f"?process={process['id']}")
    common = {"process_id": process["id"], "name": None, "tags": {"team": "a"}, "pid": process["pid"], "run": 1}
    assert started == {**common, "id": ids[0], "type": "started", "timestamp": process["started_at"]}
    at = (await daemon.get(process))["ended_at"]
    end = {**common, "type": "exited", "timestamp": at, "exit_code": 3, "signal": None, "reason": "exited"}
    assert ended == {**end, "id": ended["id"]}
    everything = await stored(daemon)
    assert [event["type"] for event in everything if event["process_id"] == refused] == ["failed"]
    assert [event["type"] for event in everything if event["process_id"] == sleeper["id"]] == ["purged"]

    assert await stored(daemon, "?type=exited&type=failed&tag=team:a") == [ended]
    assert await stored(daemon, f"?since={started['timestamp']}") == everything
    assert await stored(daemon, "?since=9999999999999") == []
    assert await stored(daemon, f"?after={started['id']}") == everything[1:]
    assert await stored(daemon, "?tail=2") == everything[-2:]
    assert await stored(daemon, "?tail=1&type=exited") == [ended]
    resumed = await until("purged", daemon.client.follow("/events?tail=1", everything[1]["id"]))
    assert [event.id for event in resumed] == [event["id"] for event in everything[2:]]
    rows = daemon.sql("SELECT id, type, process_id, run, pid, exit_code, reason FROM events WHERE id = ?", ended["id"])
    assert rows == [(ended["id"], "exited", process["id"], 1, process["pid"], 3, "exited")]
    for query, field in [
        ("process=42", "process"),
        ("type=gone", "type"),
        ("tag=x", "tag"),
        ("since=-1", "since"),
        ("after=x", "after"),
        ("tail=1.5", "tail"),
        ("limit=1", "limit"),
    ]:
        error = await daemon.call("GET", f"/events?{query}", 400)
        assert error["error"].startswith(field), error

    async with HttpClient(daemon.url, daemon.token) as client:
        following = client.follow("/events?tail=1")
        assert (await anext(following)).id == everything[-1]["id"]
        stopping = asyncio.create_task(daemon.stop())
        with pytest.raises(StopAsyncIteration):  # the daemon's end ends the stream, and does not wait for it
            await asyncio.wait_for(anext(following), DEADLINE_S)
        assert await stopping == 0


class Listener:
    """Follows, and comes back with the last id that it has seen whenever its connection breaks."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.told: list[Event] = []
        self.connections = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        async for event in resume(self._connect):
            self.told.append(event)

    async def _connect(self, last_event_id: int | None) -> AsyncGenerator[Event, None]:
        self.connections += 1
        async with HttpClient(self._daemon.url, self._daemon.token) as client:
            async for event in client.follow("/events", last_event_id):
                yield event


async def ask_for_processes(daemon: Daemon, name: str) -> None:
    """Start short processes, one after the other, whatever becomes of the answers."""
    number = 0
    async with HttpClient(daemon.url, daemon.token) as client:
        while True:
            number += 1
            client.url = daemon.url
            command = "/no/such" if number % 5 == 0 else "sh"
            body = {"command": command, "args": ["-c", f"exit {number % 7}"], "tags": {"by": name}}
            try:
                await client.call("POST", "/processes", 201, 422, 503, body=body)
            except BROKEN:
                await asyncio.sleep(0.02)


async def test_each_start_and_each_end_is_told_once_over_kills(mortal: Daemon) -> None:
    await mortal.start()
    listener = Listener(mortal)
    tasks = [asyncio.create_task(listener.run())]
    starters = [asyncio.create_task(ask_for_processes(mortal, name)) for name in "ab"]
    try:
        for armed in ("", "after-commit:15", "inside-commit:25", "before-commit:15", "end-seen:4"):
            if armed:
                mortal.environment[VARIABLE] = armed
                await mortal.start()
                assert mortal.process is not None
                await asyncio.wait_for(mortal.process.wait(), DEADLINE_S)
            else:
                await eventually(lambda: len(listener.told) >= 20)
            await mortal.kill()
        mortal.environment.pop(VARIABLE)
        await mortal.start()
        seen = len(listener.told)
        await eventually(lambda: len(listener.told) >= seen + 10)
    finally:
        for starter in starters:
            starter.cancel()
    failures = [result for result in await asyncio.gather(*starters, return_exceptions=True) if result]
    assert all(isinstance(failure, asyncio.CancelledError) for failure in failures), failures

    async def settled() -> bool:
        running = mortal.sql("SELECT count(*) FROM processes WHERE status = 'running'")
        last = mortal.sql("SELECT max(id) FROM events")
        return running == [(0,)] and last == [(listener.told[-1].id,)] and not tasks[0].done()

    await eventually(settled)
    tasks[0].cancel()
    assert listener.connections >= 5
    ids = [event.id for event in listener.told if event.id is not None]
    assert ids == sorted(set(ids))
    by_process: dict[str, list[Event]] = defaultdict(list)
    for event in listener.told:
        by_process[event.data["process_id"]].append(event)
    known = {row[0]: row[1:] for row in mortal.sql("SELECT id, pid, exit_code, reason FROM processes")}
    assert len(known) >= 20
    assert known.keys() <= by_process.keys()
    failed = 0
    for process_id, events in by_process.items():
        kinds = [event.kind for event in events]
        if process_id in known:
            assert (kinds[0], len(kinds), kinds[-1] in ENDS) == ("started", 2, True), kinds
            end = events[1].data
            assert (end["pid"], end["exit_code"], end["reason"]) == known[process_id]
        else:
            assert kinds in (["started", "failed"], ["failed"])
            failed += 1
    assert failed

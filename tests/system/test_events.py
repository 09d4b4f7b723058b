"""Events: each start and each end of a process is told once to every listener, whatever is killed meanwhile."""

import asyncio
import contextlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from harness.http_client import BROKEN, Event, HttpClient
from outlast import AsyncOutlast
from outlast.client import Event as ToldEvent
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
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson; charset=utf-8")
    return [json.loads(line) for line in answer.body.splitlines()]


@dataclass(frozen=True)
class History:
    """Three processes, and what a listener was told of them: one that exited, one that failed, one that was purged."""

    told: list[Event]
    exited: dict[str, Any]
    failed_id: str
    purged_id: str

    def told_of(self, process_id: str) -> list[str]:
        """Return the types of the events of a process."""
        return [event.kind for event in self.told if event.data["process_id"] == process_id]


@pytest.fixture
async def history(daemon: Daemon) -> History:
    listening = asyncio.create_task(until("purged", daemon.client.follow("/events")))
    exited = await daemon.sh("exit 3", tags={"team": "a"})
    assert await daemon.call("POST", "/processes", 422, {"command": "/no/such"})
    await daemon.ended(exited)
    sleeper = await daemon.run("sleep", "1000")
    await daemon.call("DELETE", f"/processes/{sleeper['id']}?purge=true", 204)
    told = await listening
    (failed_id,) = {event.data["process_id"] for event in told} - {exited["id"], sleeper["id"]}
    return History(told, exited, failed_id, sleeper["id"])


async def test_events_are_sent_as_they_happen(history: History) -> None:
    ids = [event.id for event in history.told if event.id is not None]
    assert ids == sorted(set(ids))
    assert all(event.kind == event.data["type"] for event in history.told)
    assert history.told_of(history.exited["id"]) == ["started", "exited"]
    # One event stands for all of a process that is gone: a slow listener gets that alone.
    assert history.told_of(history.failed_id) in (["started", "failed"], ["failed"])
    assert history.told_of(history.purged_id) in (["started", "exited", "purged"], ["started", "purged"], ["purged"])


async def test_stored_events_have_all_details(daemon: Daemon, history: History) -> None:
    process = history.exited
    started, ended = await stored(daemon, f"?process={process['id']}")
    common = {"process_id": process["id"], "name": None, "tags": {"team": "a"}, "pid": process["pid"], "run": 1}
    first_id = history.told[0].id
    assert started == {**common, "id": first_id, "type": "started", "timestamp": process["started_at"]}
    at = (await daemon.get(process))["ended_at"]
    end = {**common, "type": "exited", "timestamp": at, "exit_code": 3, "signal": None, "reason": "exited"}
    assert ended == {**end, "id": ended["id"]}


async def test_a_process_that_is_gone_keeps_one_event(daemon: Daemon, history: History) -> None:
    everything = await stored(daemon)
    assert [event["type"] for event in everything if event["process_id"] == history.failed_id] == ["failed"]
    assert [event["type"] for event in everything if event["process_id"] == history.purged_id] == ["purged"]


async def test_stored_events_are_filtered(daemon: Daemon, history: History) -> None:
    everything = await stored(daemon)
    started, ended = await stored(daemon, f"?process={history.exited['id']}")
    assert await stored(daemon, "?type=exited&type=failed&tag=team:a") == [ended]
    assert await stored(daemon, f"?since={started['timestamp']}") == everything
    assert await stored(daemon, "?since=9999999999999") == []
    assert await stored(daemon, f"?after={started['id']}") == everything[1:]
    assert await stored(daemon, "?tail=2") == everything[-2:]
    assert await stored(daemon, "?tail=1&type=exited") == [ended]


@pytest.mark.usefixtures("history")
async def test_a_follower_resumes_after_its_last_event(daemon: Daemon) -> None:
    everything = await stored(daemon)
    resumed = await until("purged", daemon.client.follow("/events?tail=1", everything[1]["id"]))
    assert [event.id for event in resumed] == [event["id"] for event in everything[2:]]


async def test_an_event_is_a_row_for_sql(daemon: Daemon, history: History) -> None:
    process = history.exited
    (ended,) = await stored(daemon, f"?process={process['id']}&type=exited")
    rows = daemon.sql("SELECT id, type, process_id, run, pid, exit_code, reason FROM events WHERE id = ?", ended["id"])
    assert rows == [(ended["id"], "exited", process["id"], 1, process["pid"], 3, "exited")]


async def test_malformed_parameters_are_refused_by_name(daemon: Daemon) -> None:
    for query, beginning in [
        ("process=42", "process "),
        ("type=gone", "type"),
        ("tag=x", "tag "),
        ("since=-1", "since "),
        ("after=x", "after "),
        ("tail=1.5", "tail "),
        ("limit=1", "unknown field: limit"),
    ]:
        error = await daemon.call("GET", f"/events?{query}", 400)
        assert error["error"].startswith(beginning), error


async def test_the_daemons_end_breaks_a_stream_of_events_off(daemon: Daemon, history: History) -> None:
    async with HttpClient(daemon.url, daemon.token) as client:
        following = client.follow("/events?tail=1")
        assert (await anext(following)).id == history.told[-1].id
        stopping = asyncio.create_task(daemon.stop())
        with pytest.raises(aiohttp.ClientPayloadError):  # the daemon does not wait for the stream
            await asyncio.wait_for(anext(following), DEADLINE_S)
        assert await stopping == 0


class Listener:
    """Listens with the Python client, which comes back whenever its connection breaks."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.told: list[ToldEvent] = []
        self.connections = 1

    async def run(self) -> None:
        """Go on until cancelled."""
        async with AsyncOutlast(self._daemon.url, self._daemon.token) as client:
            async for event in client.events(on_reconnect=self._came_back):
                assert isinstance(event, ToldEvent)
                self.told.append(event)

    def _came_back(self, _: int) -> None:
        self.connections += 1


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


@dataclass(frozen=True)
class Snapshot:
    """The store at one moment: processes, and the ids of their events."""

    running: int
    ends: dict[str, tuple[Any, ...]]
    event_ids: set[int]

    @classmethod
    def take(cls, daemon: Daemon) -> "Snapshot":
        """Read all of it in one transaction: starts whose client is gone may still be under way."""
        with contextlib.closing(sqlite3.connect(daemon.state_dir / "outlast.db", isolation_level=None)) as db:
            db.execute("BEGIN")
            ((running,),) = db.execute("SELECT count(*) FROM processes WHERE status = 'running'")
            ends = {row[0]: row[1:] for row in db.execute("SELECT id, pid, exit_code, reason FROM processes")}
            return cls(running, ends, {row[0] for row in db.execute("SELECT id FROM events")})


async def kill_and_start(daemon: Daemon, listener: Listener) -> None:
    """Kill the daemon at five points while processes start and end, and let it run in the end."""
    for armed in ("", "after-commit:15", "inside-commit:25", "before-commit:15", "end-seen:4"):
        if armed:
            daemon.environment[VARIABLE] = armed
            await daemon.launch()
            await daemon.announcement()  # none, if the point was reached in the recovery
            assert daemon.process is not None
            await asyncio.wait_for(daemon.process.wait(), DEADLINE_S)
        else:
            await eventually(lambda: len(listener.told) >= 20)
        await daemon.kill()
    daemon.environment.pop(VARIABLE)
    await daemon.start()
    seen = len(listener.told)
    await eventually(lambda: len(listener.told) >= seen + 10)


async def tell_over_kills(daemon: Daemon) -> tuple[Listener, Snapshot]:
    """Return a listener that went through kills, and the store at the moment when it had heard of all."""
    await daemon.start()
    listener = Listener(daemon)
    listening = asyncio.create_task(listener.run())
    starters = [asyncio.create_task(ask_for_processes(daemon, name)) for name in "ab"]
    try:
        await kill_and_start(daemon, listener)
    finally:
        for starter in starters:
            starter.cancel()
    failures = [result for result in await asyncio.gather(*starters, return_exceptions=True) if result]
    assert all(isinstance(failure, asyncio.CancelledError) for failure in failures), failures

    def settled() -> Snapshot | None:
        snapshot = Snapshot.take(daemon)
        has_all = max(snapshot.event_ids) == listener.told[-1].id and not listening.done()
        return snapshot if has_all and snapshot.running == 0 else None

    snapshot = await eventually(settled)
    listening.cancel()
    return listener, snapshot


async def test_each_event_is_sent_once_over_kills(crashable_daemon: Daemon) -> None:
    listener, snapshot = await tell_over_kills(crashable_daemon)
    assert listener.connections >= 5
    ids = [event.id for event in listener.told]
    assert ids == sorted(set(ids))
    assert snapshot.event_ids <= set(ids)
    by_process: dict[str, list[ToldEvent]] = defaultdict(list)
    for event in listener.told:
        by_process[event.process_id].append(event)
    assert len(snapshot.ends) >= 20
    assert snapshot.ends.keys() <= by_process.keys()
    for process_id, end in snapshot.ends.items():
        started, ended = by_process[process_id]
        assert started.type == "started"
        assert ended.type in ENDS
        assert (ended.pid, ended.exit_code, ended.reason) == end
    failed = by_process.keys() - snapshot.ends.keys()
    assert failed
    for process_id in failed:
        kinds = [event.type for event in by_process[process_id]]
        assert kinds in (["started", "failed"], ["failed"])

"""One `idempotency_key`, one process: also when a client asks again, whatever was killed meanwhile."""

import asyncio
import contextlib
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from outlast.failpoints import VARIABLE
from outlast.storage.sqlite.commit import commit
from outlast.testing.storage.samples import new_process
from tests.support.daemon import Daemon, shim_children
from tests.support.waiting import DEADLINE_S, eventually

BODY = {"command": "sleep", "args": ["1000"], "idempotency_key": "key 1"}


async def post(daemon: Daemon, body: dict[str, Any]) -> tuple[int, Any]:
    """Ask for a start; return the status and the answer."""
    async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=body) as response:
        return response.status, await response.json()


async def test_the_same_key_gives_the_same_process(daemon: Daemon) -> None:
    status, first = await post(daemon, BODY)
    assert status == 201
    assert await post(daemon, BODY) == (200, first)
    assert await post(daemon, {**BODY, "tags": {"other": "fields"}, "stdin_mode": "pipe"}) == (200, first)
    status, other = await post(daemon, {**BODY, "idempotency_key": "key 2"})
    assert status == 201
    assert other["id"] != first["id"]
    assert shim_children(daemon.state_dir) == {first["pid"], other["pid"]}
    assert daemon.sql("SELECT id, idempotency_key FROM processes ORDER BY handle") == [
        (first["id"], "key 1"),
        (other["id"], "key 2"),
    ]


async def test_a_known_key_answers_with_the_present_state_of_its_process(daemon: Daemon) -> None:
    body = {"command": "sh", "args": ["-c", "echo once; exit 3"], "idempotency_key": "job"}
    _, process = await post(daemon, body)
    ended = await daemon.ended(process)
    assert ended["exit_code"] == 3
    assert await post(daemon, body) == (200, ended)
    for _ in range(2):
        await daemon.kill()
        await daemon.start()
        assert await post(daemon, body) == (200, ended)
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 204)
    status, again = await post(daemon, body)
    assert (status, again["id"] == process["id"]) == (201, False)
    await daemon.ended(again)


async def test_another_command_with_the_same_key_is_refused(daemon: Daemon) -> None:
    _, process = await post(daemon, BODY)
    changes: tuple[dict[str, Any], ...] = ({"command": "true"}, {"args": ["999"]}, {"args": []})
    for changed in changes:
        status, error = await post(daemon, {**BODY, **changed})
        assert (status, error["code"]) == (400, "INVALID_REQUEST")
        assert error["error"].startswith("idempotency_key belongs to a start of another command, or with other args")
    assert shim_children(daemon.state_dir) == {process["pid"]}


async def test_a_failed_start_frees_its_key(daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "program"
    body = {"command": str(program), "idempotency_key": "k"}
    for _ in range(2):
        assert (await post(daemon, body))[1]["code"] == "SPAWN_FAILED"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    status, process = await post(daemon, body)
    assert status == 201
    await daemon.ended(process)
    assert (await post(daemon, body))[0] == 200


async def test_twenty_at_once_are_one_start(daemon: Daemon) -> None:
    answers = await asyncio.gather(*(post(daemon, BODY) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert len({answer["id"] for _, answer in answers}) == 1
    assert shim_children(daemon.state_dir) == {answers[0][1]["pid"]}
    assert (await daemon.call("GET", "/info", 200))["total_processes"] == 1


async def test_twenty_at_once_share_a_failure(daemon: Daemon) -> None:
    answers = await asyncio.gather(*(post(daemon, {**BODY, "command": "/no/such"}) for _ in range(20)))
    assert {(status, answer["code"]) for status, answer in answers} == {(422, "SPAWN_FAILED")}
    assert (await post(daemon, BODY))[0] == 201


async def test_keys_do_not_wait_for_each_other(daemon: Daemon) -> None:
    answers = await asyncio.gather(*(post(daemon, {**BODY, "idempotency_key": f"k{n % 5}"}) for n in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 15 + [201] * 5
    assert len(shim_children(daemon.state_dir)) == 5


async def test_a_caller_that_hangs_up_finds_its_process_again(daemon: Daemon) -> None:
    timeout = aiohttp.ClientTimeout(total=0.001)
    with pytest.raises(asyncio.TimeoutError):
        await daemon.session.post(f"{daemon.url}/api/v1/processes", json=BODY, timeout=timeout)
    status, process = await post(daemon, BODY)
    assert status in {200, 201}
    assert await post(daemon, BODY) == (200, process)
    assert shim_children(daemon.state_dir) == {process["pid"]}


async def test_the_key_of_a_start_that_is_being_withdrawn_is_taken(daemon: Daemon) -> None:
    """As the store has it when a commit came through whose answer did not, until the start is withdrawn."""
    with contextlib.closing(sqlite3.connect(daemon.state_dir / "outlast.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        commit(db, [new_process(key="key 1")])
        db.execute("COMMIT")
    status, error = await post(daemon, BODY)
    assert (status, error["code"]) == (503, "UNAVAILABLE")
    assert shim_children(daemon.state_dir) == set()


def started_since(daemon: Daemon, before: set[int]) -> set[int]:
    return shim_children(daemon.state_dir) - before


async def asked_of_the_dying(daemon: Daemon, body: dict[str, Any], point: str) -> None:
    """Ask a daemon that dies of it."""
    with pytest.raises(aiohttp.ClientError):
        await post(daemon, body)
    assert daemon.process is not None
    assert await asyncio.wait_for(daemon.process.wait(), DEADLINE_S) == -9, point
    await daemon.kill()


@pytest.mark.long
@pytest.mark.parametrize("point", ["start-forked", "start-recorded", "before-commit", "inside-commit", "after-commit"])
async def test_a_start_is_found_under_its_key_after_the_daemons_death(crashable_daemon: Daemon, point: str) -> None:
    """Killed at the first start, then at the second, and so on: each time the next daemon has that very process."""
    started: list[dict[str, Any]] = []
    for count in range(1, 4):
        crashable_daemon.environment[VARIABLE] = f"{point}:{count}" if point.startswith("start") else f"{point}:1"
        await crashable_daemon.start()
        if point.startswith("start"):
            for number in range(1, count):
                body = {**BODY, "idempotency_key": f"round {count}, start {number}"}
                started.append((await post(crashable_daemon, body))[1])
        body = {**BODY, "idempotency_key": f"round {count}, the last"}
        before = shim_children(crashable_daemon.state_dir)
        await asked_of_the_dying(crashable_daemon, body, point)
        (pid,) = await eventually(partial(started_since, crashable_daemon, before))
        del crashable_daemon.environment[VARIABLE]
        await crashable_daemon.start()
        status, process = await post(crashable_daemon, body)
        assert (status, process["pid"], process["status"]) == (200, pid, "running")
        started.append(process)
        assert shim_children(crashable_daemon.state_dir) == {each["pid"] for each in started}
        listed = (await crashable_daemon.call("GET", "/processes", 200))["processes"]
        assert [each["id"] for each in listed[::-1]] == [each["id"] for each in started]
        await crashable_daemon.stop()


@pytest.mark.long
async def test_an_unrecorded_start_holds_its_key(crashable_daemon: Daemon, tmp_path: Path) -> None:
    """The daemon died before the record, and the next one cannot commit it: nothing else may be started for it."""
    log = tmp_path / "starts"
    body = {"command": "sh", "args": ["-c", f"echo >> {log}; exec sleep 1000"], "idempotency_key": "k"}
    crashable_daemon.environment[VARIABLE] = "start-forked"
    await crashable_daemon.start()
    await asked_of_the_dying(crashable_daemon, body, "start-forked")
    del crashable_daemon.environment[VARIABLE]
    with contextlib.closing(sqlite3.connect(crashable_daemon.state_dir / "outlast.db", isolation_level=None)) as locked:
        locked.execute("BEGIN IMMEDIATE")
        await crashable_daemon.start()
        status, error = await post(crashable_daemon, body)
        assert (status, error["code"]) == (503, "UNAVAILABLE")

    async def recorded() -> Any:
        status, answer = await post(crashable_daemon, body)
        return answer if status == 200 else None

    process = await eventually(recorded)
    assert shim_children(crashable_daemon.state_dir) == {process["pid"]}
    await eventually(lambda: log.exists() and log.read_text() == "\n")


async def ask_until_answered(daemon: Daemon, body: dict[str, Any], answered: dict[str, dict[str, Any]]) -> None:
    """Ask for a start again and again, over the deaths of daemons, and keep the answer under its key."""
    key = body["idempotency_key"]

    async def is_answered() -> bool:
        try:
            status, answer = await post(daemon, body)
        except (aiohttp.ClientError, RuntimeError):  # its session may be closed under it
            return False
        if status == 401:  # a daemon of another test has the port of the one that was killed
            return False
        assert status in {200, 201, 503}, answer
        if status != 503:
            answered[key] = answer
        return status != 503

    await eventually(is_answered, key, deadline_s=3 * DEADLINE_S)


@pytest.mark.long
async def test_kills_at_any_moment_leave_one_process_a_key(daemon: Daemon, tmp_path: Path) -> None:
    log = tmp_path / "starts"
    keys = [f"key {n}" for n in range(60)]
    answered: dict[str, dict[str, Any]] = {}

    def are_answered(count: int) -> bool:
        return len(answered) >= count

    async with asyncio.TaskGroup() as group:
        for key in keys:
            script = f"echo {key!r} >> {log}; exec sleep 1000"
            body = {"command": "sh", "args": ["-c", script], "idempotency_key": key}
            group.create_task(ask_until_answered(daemon, body, answered))
        for count in range(1, 8):
            await eventually(partial(are_answered, 6 * count), deadline_s=2 * DEADLINE_S)
            await daemon.kill()
            await daemon.start()
    await eventually(lambda: len(log.read_text().splitlines()) >= len(keys))
    assert sorted(log.read_text().splitlines()) == sorted(keys)
    assert shim_children(daemon.state_dir) == {process["pid"] for process in answered.values()}
    assert dict(daemon.sql("SELECT idempotency_key, id FROM processes")) == {
        key: process["id"] for key, process in answered.items()
    }

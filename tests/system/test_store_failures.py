"""The store fails, stalls or tears under a daemon that floods: nothing is lost, and all goes on by itself."""

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, is_running, outlast, shim_children
from tests.support.faulty import FaultyStore
from tests.support.health import health, unavailable, wait_until_healthy
from tests.support.load import Load
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

FAULTS: dict[str, dict[str, Any]] = {
    "err": {"mode": Mode.ERR},
    "err, reads too": {"mode": Mode.ERR, "reads": True},
    "stall": {"mode": Mode.STALL},
    "stall, reads too": {"mode": Mode.STALL, "reads": True},
    "tear behind all": {"mode": Mode.TEAR},
    "tear within": {"mode": Mode.TEAR, "part": 1},
    "break": {"mode": Mode.BREAK},
}
REASONS = {
    Mode.ERR: "an injected error",
    Mode.STALL: "under way for more than 5 s",
    Mode.TEAR: "an injected tear",
    Mode.BREAK: "an injected defect",
}


@pytest.fixture
def store(tmp_path: Path, state_dir: Path) -> FaultyStore:
    return FaultyStore(tmp_path, state_dir)


@pytest.fixture
async def daemon(state_dir: Path, store: FaultyStore) -> AsyncIterator[Daemon]:
    running = Daemon(state_dir, **store.environment)
    try:
        await running.start()
        yield running
        assert "before another had returned" not in running.log
    finally:
        store.mend()
        await running.end_everything()


def stored(daemon: Daemon) -> int:
    return int(daemon.sql("SELECT count(*) FROM processes")[0][0])


async def counted(daemon: Daemon) -> int:
    return int((await daemon.call("GET", "/info", 200))["total_processes"])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failing_store_loses_no_output(daemon: Daemon, store: FaultyStore, fault: str) -> None:
    load = Load(daemon)
    await load.start()
    store.inject(**FAULTS[fault])
    assert REASONS[FAULTS[fault]["mode"]] in await eventually(lambda: health(daemon))
    await unavailable(daemon, "POST", "/processes", {"command": "true"})
    await load.end_stoppable()
    if FAULTS[fault].get("reads") and "err" in fault:
        await unavailable(daemon, "GET", "/processes")
        await unavailable(daemon, "GET", f"/processes/{load.flood.process['id']}/output")
    elif not FAULTS[fault].get("reads"):
        assert len((await daemon.call("GET", "/processes", 200))["processes"]) == 3
        for method, path in (("DELETE", ""), ("DELETE", "?purge=true")):
            await daemon.call(method, f"/processes/{load.stoppable.process['id']}{path}", 202)  # it is killed
        async for event in daemon.follow(load.flood.process):  # history is there, though nothing new comes
            assert event == load.flood.events[0]
            break
    store.mend()
    await wait_until_healthy(daemon)
    assert all(followed.task is not None and not followed.task.done() for followed in (load.flood, load.trickle))
    await daemon.ended(await daemon.run("true"))
    await load.finish()
    assert stored(daemon) == await counted(daemon) == 4


@pytest.mark.parametrize("fault", ["err", "stall", "tear within"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_the_daemon_ends_while_its_store_fails(
    daemon: Daemon, store: FaultyStore, fault: str, number: signal.Signals
) -> None:
    load = Load(daemon)
    await load.start()
    store.inject(**FAULTS[fault])
    await eventually(lambda: health(daemon))
    await load.end_stoppable()
    assert daemon.process is not None
    daemon.process.send_signal(number)
    await load.interrupted()
    assert await daemon.stop(number) == (0 if number == signal.SIGTERM else -number)
    await daemon.start()  # it fails still
    load.follow()
    await eventually(lambda: health(daemon))
    store.mend()
    await wait_until_healthy(daemon)
    await load.finish()
    assert stored(daemon) == await counted(daemon) == 3


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("query", ["", "?purge=true"])
async def test_a_kill_does_not_depend_on_the_store(
    daemon: Daemon, store: FaultyStore, query: str, *, reads: bool
) -> None:
    plain, managed = await daemon.run("sleep", "1000"), await daemon.run("sleep", "1000", name="web")
    store.inject(Mode.ERR, reads=reads)
    for process, ref, status in ((plain, plain["pid"], 500 if reads else 202), (managed, "web", 500)):
        answer = await daemon.call("DELETE", f"/processes/{ref}{query}", status)
        assert status == 202 or answer["code"] == "INTERRUPTED"
        assert not is_running(process["pid"])
    store.mend()
    for process in (plain, managed):
        await eventually(lambda: _delete(daemon, process, query))  # noqa: B023 - it is called in this round
        assert not shim_children(daemon.state_dir)
    if not query:
        await daemon.kill()
        await daemon.start()
        assert (await daemon.get(managed))["managed"]["status"] == "stopped"


async def _delete(daemon: Daemon, process: dict[str, Any], query: str) -> bool:
    async with daemon.session.delete(f"{daemon.url}/api/v1/processes/{process['id']}{query}") as response:
        return response.status in {204, 404}


async def test_a_slow_store_is_no_failure(daemon: Daemon, store: FaultyStore) -> None:
    load = Load(daemon)
    await load.start()
    store.inject(Mode.SLOW, delay_s=1.0)
    process = await daemon.run("true")
    await load.end_stoppable()
    await daemon.ended(process)
    assert await health(daemon) == ""
    store.mend()
    await load.finish()


async def test_a_start_stored_after_its_answer_is_withdrawn(daemon: Daemon, store: FaultyStore) -> None:
    store.inject(Mode.STALL)
    start = {"command": "sleep", "args": ["1000"], "idempotency_key": "k"}
    assert "under way" in await unavailable(daemon, "POST", "/processes", start)
    await eventually(lambda: not shim_children(daemon.state_dir))
    store.mend()  # now what was under way is stored
    process = await eventually(lambda: _start_again(daemon, start))
    assert (stored(daemon), await counted(daemon)) == (1, 1)
    assert (await daemon.get(process))["status"] == "running"


async def test_a_start_with_a_torn_commit_is_withdrawn(daemon: Daemon, store: FaultyStore) -> None:
    store.inject(Mode.TEAR)
    start = {"command": "sleep", "args": ["1000"], "idempotency_key": "k"}
    await unavailable(daemon, "POST", "/processes", start)
    assert stored(daemon) == 1  # or this test would prove nothing
    await eventually(lambda: not shim_children(daemon.state_dir))
    await unavailable(daemon, "POST", "/processes", start)
    store.mend()
    await eventually(lambda: stored(daemon) == 0)
    assert await counted(daemon) == 0
    process = await eventually(lambda: _start_again(daemon, start))
    assert (await daemon.get(process))["status"] == "running"


async def _start_again(daemon: Daemon, start: dict[str, Any]) -> dict[str, Any] | None:
    async with daemon.session.post(f"{daemon.url}/api/v1/processes", json=start) as response:
        return await response.json() if response.status == 201 else None


async def test_a_purge_with_a_torn_commit_is_completed(daemon: Daemon, store: FaultyStore) -> None:
    process = await daemon.run("true")
    await daemon.ended(process)
    store.inject(Mode.TEAR)
    answer = await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 500)
    assert answer["code"] == "INTERRUPTED"
    assert stored(daemon) == 0
    store.mend()
    await wait_until_healthy(daemon)
    assert await counted(daemon) == 0
    await daemon.call("DELETE", f"/processes/{process['id']}?purge=true", 404)


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BREAK])
async def test_a_quarantined_process_delays_no_other(daemon: Daemon, store: FaultyStore, mode: Mode) -> None:
    load = Load(daemon)
    await load.start()
    poisoned, seen = load.flood, len(load.trickle.events)
    store.inject(mode, handle=poisoned.process["handle"])
    assert poisoned.process["id"] in await eventually(lambda: health(daemon))
    await daemon.ended(await eventually(lambda: _start_again(daemon, {"command": "true"})))
    await load.end_stoppable()
    await eventually(load.stoppable.has_eof)
    await eventually(lambda: len(load.trickle.events) > seen + 20)
    store.mend()
    await wait_until_healthy(daemon)
    await load.finish()


async def test_a_quarantined_process_can_be_purged(daemon: Daemon, store: FaultyStore) -> None:
    load = Load(daemon)
    await load.start()
    poisoned = load.flood.process
    store.inject(Mode.REFUSE, handle=poisoned["handle"])
    await eventually(lambda: health(daemon))
    pids = {process["pid"] for process in (followed.process for followed in load.all)}

    async def purged() -> bool:  # the shim is away for a moment when a refusal is answered with a new connection
        async with daemon.session.delete(f"{daemon.url}/api/v1/processes/{poisoned['id']}?purge=true") as response:
            assert response.status in (202, 204, 500, 503)
            return response.status == 204

    await eventually(purged)
    await wait_until_healthy(daemon)
    assert stored(daemon) == await counted(daemon) == 2
    await eventually(lambda: shim_children(daemon.state_dir) == pids - {poisoned["pid"]})
    store.mend()
    await load.end_stoppable()
    assert load.flood.task is not None
    await eventually(load.flood.task.done)
    assert not load.flood.has_eof()  # what it had not read is gone
    await load.leave()


async def test_the_position_of_a_quarantined_process_is_read_again_until_the_store_answers(
    daemon: Daemon, store: FaultyStore
) -> None:
    load = Load(daemon)
    await load.start()
    store.inject(Mode.REFUSE, handle=load.flood.process["handle"])
    await eventually(lambda: health(daemon))
    store.inject(Mode.ERR, reads=True)
    tried = time.monotonic()
    await eventually(lambda: time.monotonic() > tried + 2)  # it is tried every second
    store.mend()
    await wait_until_healthy(daemon)
    await load.end_stoppable()
    await load.finish()


async def test_a_daemon_does_not_start_on_a_store_that_cannot_be_read(daemon: Daemon, store: FaultyStore) -> None:
    process = await daemon.sh("echo kept")
    await daemon.kill()
    store.inject(Mode.ERR, reads=True)
    code, output = await outlast(
        "serve", "--listen", "127.0.0.1:0", "--state-dir", str(daemon.state_dir), **store.environment
    )
    assert code == 1
    assert "injected error" in output.splitlines()[-1]
    store.mend()
    await daemon.start()
    await daemon.ended(process)
    assert await daemon.raw(process) == b"kept\n"


async def test_down_gives_up_nothing_that_a_slow_store_has_not_taken_yet(daemon: Daemon, store: FaultyStore) -> None:
    process = await daemon.sh(f"read go; yes {'x' * 99} | head -n 300000", stdin_mode="pipe")
    await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")
    await daemon.kill()
    await eventually(lambda: not is_running(process["pid"]))
    store.inject(Mode.SLOW, delay_s=4)  # of 4 MiB; it does not count as stalled
    code, said = await outlast("shutdown", "--state-dir", str(daemon.state_dir), **store.environment)
    store.mend()
    assert (code, "not all of their output is stored yet" in said) == (1, True), said
    code, said = await outlast("shutdown", "--state-dir", str(daemon.state_dir), **store.environment)
    assert code == 0, said
    await daemon.start()
    assert (await daemon.raw(process)).count(b"\n") == 300_000

"""The log in the first minute of each trouble: an operator reads what has happened, and what to do."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, shim_pid
from tests.support.disk import mounted
from tests.support.faulty import FaultyStore
from tests.support.metrics import scrape
from tests.support.patched_daemon import patched_daemon
from tests.support.waiting import eventually
from tests.system.test_refused_calls import UNREADABLE


async def told(daemon: Daemon, *words: str) -> str:
    """Wait for a line of the log that has all of these words, and return it."""

    def line() -> str | None:
        return next((line for line in daemon.log.splitlines() if all(word in line for word in words)), None)

    return await eventually(line, f"{words} in the log", deadline_s=40)


async def test_a_locked_store(daemon: Daemon) -> None:
    with sqlite3.connect(daemon.state_dir / "outlast.db") as db:
        db.execute("BEGIN IMMEDIATE")
        await daemon.call("POST", "/processes", 503, {"command": "true"})
        await told(
            daemon, "ERROR", "the store cannot commit; the shim keeps all output until it can", "locked", "end it"
        )
        db.rollback()
    await told(daemon, "WARNING", "the store commits again")


async def test_a_store_that_does_not_answer(tmp_path: Path, state_dir: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        store.inject(Mode.STALL)
        await daemon.call("POST", "/processes", 503, {"command": "true"})
        await told(daemon, "ERROR", "under way for more than 5 s: check the disk or the database server")
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_process_whose_output_is_rejected(tmp_path: Path, state_dir: Path) -> None:
    store = FaultyStore(tmp_path, state_dir)
    daemon = Daemon(state_dir, **store.environment)
    try:
        await daemon.start()
        process = await daemon.run("sh", "-c", "read go; echo x; sleep 1000", stdin_mode="pipe")
        store.inject(Mode.REFUSE, handle=process["handle"])
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"go\n")
        await told(daemon, "ERROR", process["id"], "rejects the output", "purge=true")
    finally:
        store.mend()
        await daemon.end_everything()


async def test_a_database_that_was_moved_away(daemon: Daemon) -> None:
    database = daemon.state_dir / "outlast.db"
    away = database.rename(database.with_name("away.db"))
    await told(daemon, "ERROR", "outlast.db", "gone")
    away.rename(database)
    await told(daemon, "WARNING", "the store commits again")


async def test_a_shim_that_was_killed(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await told(daemon, "WARNING", f"the shim (pid {shim}) has ended", "has taken its place, and has its processes")


async def test_a_shim_that_was_stopped(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    process = await daemon.sh("sleep 1000")
    os.kill(shim, signal.SIGSTOP)
    try:
        asking = asyncio.create_task(daemon.call("POST", f"/processes/{process['id']}/signal", 500, {"signal": 10}))
        await told(daemon, "ERROR", "has not answered for 10 s", f"kill -CONT {shim}", "kill it with -9")
        await asking
    finally:
        os.kill(shim, signal.SIGCONT)
    await told(daemon, "WARNING", "the shim answers again")


async def test_processes_that_ended_unseen(daemon: Daemon) -> None:
    await daemon.sh("sleep 1000")
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(daemon.pid, signal.SIGSTOP)  # it must not start another shim
    os.kill(shim, signal.SIGKILL)
    await daemon.kill()
    await daemon.start()
    await told(daemon, "WARNING", "1 processes ended while neither a daemon nor the shim could see it", "lost")


async def test_a_managed_process_that_backs_off_or_cannot_be_started(daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    restart = {"policy": "always", "initial_backoff_ms": 50, "max_backoff_ms": 50}
    process = await daemon.run(str(program), name="web", restart=restart)
    called = f"managed process web ({process['id']})"
    await told(daemon, "INFO", called, "run 1 has ended (exit code 3)", "the next start is in 0.")
    program.unlink()
    await told(daemon, "WARNING", called, "cannot be started; the next start is in", "was not found")
    count = daemon.log.count("cannot be started")

    async def has_tried_more() -> bool:
        return ((await scrape(daemon))("outlast_process_starts_total", result="failed") or 0) > 3

    await eventually(has_tried_more)
    assert daemon.log.count("cannot be started") == count, "each try has a line"
    await daemon.call("DELETE", "/processes/web", 204)


async def test_a_process_that_is_not_restarted_any_more(daemon: Daemon) -> None:
    await daemon.sh("exit 3", name="web", restart={"policy": "never"})
    await told(daemon, "INFO", "managed process web", "run 1 has ended (exit code 3); it is not restarted")


async def test_a_wrong_token(daemon: Daemon) -> None:
    async with daemon.session.get(f"{daemon.url}/metrics", headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == 401
    line = await told(daemon, "WARNING", "refused connections: 1 because the token was missing or wrong")
    assert "Bearer" not in line


async def test_starts_for_which_the_system_lacks_something(crashable_daemon: Daemon) -> None:
    daemon = crashable_daemon
    await daemon.start()
    os.system(f"prlimit --pid {daemon.pid} --nofile=40:40")  # noqa: S605 - a number
    for _ in range(3):
        await daemon.call("POST", "/processes", 503, {"command": "true"})
    await told(daemon, "WARNING", "starts are refused", "LimitNOFILE")
    assert daemon.log.count("starts are refused") == 1
    os.system(f"prlimit --pid {daemon.pid} --nofile=4096:4096")  # noqa: S605 - a number


async def test_output_that_the_shim_cannot_read(state_dir: Path, tmp_path: Path) -> None:
    refuse = tmp_path / "refuse"
    daemon = patched_daemon(state_dir, UNREADABLE.format(str(refuse)))
    try:
        await daemon.start()
        refuse.touch()
        process = await daemon.sh("echo kept")
        await told(daemon, "WARNING", f"cannot read the output of {process['id']}", "disk space", "shim.log")
        refuse.unlink()
        await daemon.ended(process)
        assert daemon.log.count("cannot read the output") == 1
    finally:
        await daemon.end_everything()


async def test_a_managed_process_without_the_key_of_its_environment(daemon: Daemon) -> None:
    process = await daemon.sh("sleep 1000", name="web", env={"A": "b"}, restart={"policy": "always"})
    (daemon.state_dir / "env.key").unlink()
    await daemon.call("POST", f"/processes/{process['id']}/signal", 200, {"signal": 9})
    await told(daemon, "WARNING", "managed process web", "cannot be started; it is not restarted", "env.key")


async def test_a_truncated_database(daemon: Daemon) -> None:
    (daemon.state_dir / "outlast.db").write_bytes(b"")
    await told(daemon, "ERROR", "the store cannot commit", "truncated", "restore")


@pytest.mark.slow
async def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 96) as disk:
        daemon = Daemon(disk.path / "state")
        try:
            await daemon.start()
            await daemon.sh("while :; do echo tick; done")
            disk.fill()
            await told(daemon, "ERROR", "the store cannot commit; the shim keeps all output", "make room, or purge")
        finally:
            disk.ballast.unlink(missing_ok=True)
            await daemon.end_everything()

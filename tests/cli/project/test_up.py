"""`up` and `down` against a daemon."""

import asyncio
import signal
from pathlib import Path

from tests.cli.commands import outlast, started
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

SHOP = """
name: shop
processes:
  db: {command: "sleep 0.1; echo db ready; exec sleep 1000", ready_log_line: ready}
  web:
    command: "echo web with $COLOUR; exec sleep 1000"
    environment: ["COLOUR=%s"]
    depends_on: {db: {condition: process_log_ready}}
"""


async def names(daemon: Daemon) -> set[str]:
    """The names of the processes that run."""
    found = await daemon.call("GET", "/processes?status=running", 200)
    return {process["name"] for process in found["processes"]}


async def test_up_touches_only_what_has_changed_and_down_ends_all(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    file.write_text(SHOP % "red")
    first = await outlast(daemon, "up", "--wait", "-f", str(file))
    assert (first.code, first.text) == (0, "")
    assert first.err == "shop: created db, web\nshop: web waits for db to be log ready\n"
    assert await names(daemon) == {"shop.db", "shop.web"}
    again = await outlast(daemon, "up", "-d", "-f", str(file))
    assert (again.code, again.err) == (0, "shop: unchanged db, web\n")
    file.write_text(SHOP % "blue")
    plan = await outlast(daemon, "up", "--dry-run", "-f", str(file))
    assert plan.err == "shop: would be: changed web; unchanged db\n"
    changed = await outlast(daemon, "up", "--wait", "-f", str(file))
    assert changed.err == "shop: changed web; unchanged db\n"
    assert (await outlast(daemon, "logs", "shop.web")).text == "web with blue\n"
    ended = await outlast(daemon, "down", "-f", str(file))
    assert (ended.code, ended.text) == (0, "shop: all ended\n")
    assert await names(daemon) == set()
    assert (await outlast(daemon, "down", "-p", "shop")).code == 1


async def test_what_is_wrong_starts_and_stops_nothing(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    file.write_text(SHOP % "red")
    assert (await outlast(daemon, "up", "--wait", "-f", str(file))).code == 0
    for text, line in ((SHOP.replace("db: {command", "db: {comand"), 4), (SHOP + "    depends_on: {}\n", 9)):
        file.write_text(text)
        said = await outlast(daemon, "up", "-d", "-f", str(file))
        assert said.code == 2
        assert f"{file}, line {line}: " in said.err
        assert await names(daemon) == {"shop.db", "shop.web"}
    file.write_text(SHOP % "red")
    assert "'wbe' is not declared; did you mean 'web'?" in (await outlast(daemon, "up", "wbe", "-f", str(file))).err


async def test_some_processes_with_and_without_those_they_depend_on(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    file.write_text(SHOP % "red" + "  other: {command: exec sleep 1000}\n")
    said = await outlast(daemon, "up", "--wait", "web", "-f", str(file))
    assert (said.code, await names(daemon)) == (0, {"shop.db", "shop.web"}), said
    await outlast(daemon, "down", "-f", str(file))
    said = await outlast(daemon, "up", "--wait", "--no-deps", "web", "-f", str(file))
    assert (said.code, await names(daemon)) == (0, {"shop.web"}), said
    said = await outlast(daemon, "down", "web", "-f", str(file))
    assert (said.text, await names(daemon)) == ("shop: web ended\n", set())


async def test_wait_fails_with_the_reason(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    file.write_text(
        "name: bad\nprocesses:\n  a: {command: exit 3}\n  b: {command: 'true', depends_on: {a: {condition: "
        "process_completed_successfully}}}\n"
    )
    said = await outlast(daemon, "up", "--wait", "-f", str(file))
    assert said.code == 1
    assert (
        "bad: a failed: exit code 3; b skipped: a is failed, and cannot be completed successfully any more" in said.err
    )
    file.write_text("name: slow\nprocesses:\n  a: {command: exec sleep 1000, ready_log_line: never}\n")
    said = await outlast(daemon, "up", "--wait", "--timeout", "100ms", "-f", str(file))
    assert (said.code, "slow: not ready after 0.1 s: a" in said.err) == (124, True)


async def test_an_attached_up_shows_output_and_ctrl_c_ends_the_project(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(
        "web: echo on $PORT; exec sleep 1000\nworker: echo works on $PORT >&2; exec sleep 1000\n"
    )
    async with started(daemon, "up", "-p", "shop", "-f", str(tmp_path / "Procfile")) as up:
        assert up.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            lines = {(await up.stdout.readline()).decode() for _ in range(2)}
        assert lines == {"web    │ on 5000\n", "worker ┃ works on 5100\n"}
        up.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(up.wait(), DEADLINE_S) == 130
    assert await names(daemon) == set()
    assert await daemon.call("GET", "/projects", 200) == {"projects": []}


async def test_an_attached_up_that_is_gone_leaves_the_project_running(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: echo up; exec sleep 1000\n")
    async with started(daemon, "up", "-p", "shop", "-f", str(tmp_path / "Procfile")) as up:
        assert up.stdout is not None
        assert await asyncio.wait_for(up.stdout.readline(), DEADLINE_S) == b"web \xe2\x94\x82 up\n"
        await daemon.kill()
        await daemon.start()
        up.send_signal(signal.SIGHUP)
        await asyncio.wait_for(up.wait(), DEADLINE_S)
    assert await names(daemon) == {"shop.web"}


async def test_an_attached_up_ends_with_its_processes(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("a: echo one; exit 3\nb: echo two; sleep 0.2\n")
    said = await outlast(daemon, "up", "-p", "shop", "-f", str(tmp_path / "Procfile"))
    assert said.code == 1
    assert sorted(line for line in said.text.split("\n") if "│" in line) == ["a │ one", "b │ two"]
    assert "shop: a failed: exit code 3" in said.err
    (tmp_path / "Procfile").write_text("a: echo one; exit 3\nb: exec sleep 1000\n")
    said = await outlast(daemon, "up", "-p", "other", "--abort-on-exit", "-f", str(tmp_path / "Procfile"))
    assert (said.code, "other: a has ended, and so does the rest" in said.err) == (1, True)
    assert await names(daemon) == set()


async def test_a_project_goes_on_when_daemon_and_command_are_killed_at_once(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    file.write_text(SHOP.replace("sleep 0.1", "sleep 0.5") % "red")
    assert (await outlast(daemon, "up", "-d", "-f", str(file))).code == 0
    await daemon.kill()
    await daemon.start()

    async def are_up() -> bool:
        return await names(daemon) == {"shop.db", "shop.web"}

    await eventually(are_up)
    shown = await daemon.call("GET", f"/projects/shop?wait={DEADLINE_S}", 200)
    assert shown["settled"], shown

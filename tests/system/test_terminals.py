"""Programs in terminals outlive the daemon and the shim, and every client that attaches sees their screen."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.daemon import PYTHON, Daemon, outlast, shim_pid, wait_for_another_shim
from tests.support.health import wait_until_healthy
from tests.support.required import program
from tests.support.terminal import COLS, ROWS, attach, create
from tests.support.waiting import eventually


async def restart_daemon(daemon: Daemon) -> None:
    await daemon.kill()
    await daemon.start()


async def replace_shim(daemon: Daemon) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    await wait_for_another_shim(daemon, shim)
    await wait_until_healthy(daemon)


Break = Callable[[Daemon], Awaitable[None]]
BREAKS = pytest.mark.parametrize("break_it", [restart_daemon, replace_shim])


@BREAKS
async def test_vim_goes_on_with_the_same_screen(daemon: Daemon, tmp_path: Path, break_it: Break) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"line {number}\n" for number in range(500)))
    session = await create(daemon, program("vim"), "-u", "NONE", "-N", str(text))
    async with attach(daemon, session) as client:
        await client.shows("line 22")
        await client.type("100Gihello \x1b")
        before = await client.shows("hello line 99")
        cursor = client.cursor
    await break_it(daemon)
    async with attach(daemon, session) as client:
        await client.shows(lambda lines: lines == before)
        assert client.cursor == cursor
        await client.type("dd:wq\r")
        assert await client.ended() == (0, 1000)
    assert "line 98\nline 100\n" in text.read_text()
    assert "hello" not in text.read_text()


@BREAKS
async def test_top_goes_on_with_the_same_screen(daemon: Daemon, break_it: Break) -> None:
    session = await create(daemon, program("top"), "-d", "1000")
    async with attach(daemon, session) as client:
        before = await client.shows(lambda lines: "PID" in lines[6] and client.cursor == (ROWS - 1, COLS))
    await break_it(daemon)
    async with attach(daemon, session) as client:
        await client.shows(lambda lines: lines == before)
        await client.type("q")
        assert await client.ended() == (0, 1000)


async def test_a_screen_is_shown_again_that_was_drawn_long_ago(daemon: Daemon, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"line {number} {'x' * 60}\n" for number in range(5000)))
    session = await create(daemon, program("vim"), "-u", "NONE", "-N", str(text))
    async with attach(daemon, session) as client:
        await client.shows("line 22")
        await client.type("\x06" * 260)
        await client.shows("line 4999")
        await eventually(lambda: len(client.output) > 300_000)
        before = client.lines
    await restart_daemon(daemon)
    async with attach(daemon, session) as client:
        await client.shows(lambda lines: lines == before)
        await client.type(":q!\r")
        assert await client.ended() == (0, 1000)


PAINTER = r"""
import signal, sys, time
def paint(*_):
    sys.stdout.write("\x1b[H\x1b[2Jtop line\x1b[5;1Hmiddle\x1b[11;1Hpainted %d times" % next(times))
    sys.stdout.flush()
times = iter(range(1, 100))
paint()
for number in range(40_000):
    sys.stdout.write(f"\x1b[10;1H{number:08d}")
signal.signal(signal.SIGWINCH, paint)
sys.stdout.write("\x1b[12;1Hover")
sys.stdout.flush()
while True:
    signal.pause()
"""


async def test_a_program_that_painted_long_ago_is_asked_to_repaint(daemon: Daemon) -> None:
    session = await create(daemon, PYTHON, "-c", PAINTER)
    async with attach(daemon, session, query="?after=0") as client:
        await eventually(lambda: client.output.endswith(b"over"))
    for times in (2, 3):
        async with attach(daemon, session) as client:
            await client.shows(f"painted {times} times")
            assert (client.lines[0], client.lines[4]) == ("top line", "middle")
    seen = await daemon.call("GET", f"/pty/{session['session_id']}", 200)
    assert (seen["rows"], seen["cols"]) == (24, 80)


async def test_an_upgrade_of_the_shim_keeps_terminals(daemon: Daemon) -> None:
    session = await create(daemon, "cat")
    async with attach(daemon, session) as client:
        await client.type("before\n")
        await client.shows("before")
        code, said = await outlast("shim", "upgrade", "--state-dir", str(daemon.state_dir))
        assert code == 0, said
        await wait_until_healthy(daemon)
        await client.type("after\n")
        await client.shows("after")
        await client.type("\4")
        assert await client.ended() == (0, 1000)
        assert client.output == b"before\r\nbefore\r\nafter\r\nafter\r\n"


async def test_a_shim_with_a_terminal_does_not_become_a_program_that_knows_none(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import outlast.wire.contract as c; c.TERMINAL_FEATURE = 'x'")
    session = await create(daemon, "cat")
    code, said = await outlast("shim", "upgrade", "--state-dir", str(daemon.state_dir), PYTHONPATH=str(folder))
    assert code != 0
    assert "terminal" in said
    async with attach(daemon, session) as client:
        await client.type("still here\n\4")
        assert await client.ended() == (0, 1000)


async def test_an_older_shim_is_not_asked_for_a_terminal(crashable_daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import outlast.wire.contract as c; c.TERMINAL_FEATURE = 'x'")
    daemon = crashable_daemon
    daemon.environment["PYTHONPATH"] = str(folder)
    await daemon.start()
    await daemon.stop()
    del daemon.environment["PYTHONPATH"]
    await daemon.start()
    refused = await daemon.call("POST", "/pty", 400, {"command": "cat"})
    assert "outlast shim upgrade" in refused["error"]
    process = await daemon.run("true")
    assert (await daemon.ended(process))["exit_code"] == 0


async def test_no_byte_of_a_terminal_is_lost_or_repeated_over_kills(daemon: Daemon) -> None:
    lines = 300_000
    session = await create(daemon, "sh", "-c", f"stty -opost; seq {lines}")
    process = {"id": session["session_id"]}
    for count, break_it in ((20_000, replace_shim), (100_000, restart_daemon), (180_000, replace_shim)):
        await daemon.wait_for_lines(process, count)
        await break_it(daemon)
    assert (await daemon.ended(process))["exit_code"] == 0
    whole = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
    assert await daemon.raw(process) == whole
    async with attach(daemon, session, query="?after=1000000") as client:
        await client.ended()
        assert client.output == whole[1_000_000:]

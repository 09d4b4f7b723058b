"""A terminal by the Python client: what it shows, what is typed, and that nothing is lost or twice over kills."""

import asyncio
import hashlib
import inspect
from typing import Any

import pytest

from outlast import AsyncOutlast
from outlast.client import NotFound
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE_S, eventually

COUNT = "stty -echo; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; sleep 0.002; done; read x; echo got $x"


class Viewer:
    """A client that collects what a terminal shows until it ends or is left. `seen`: all of it."""

    def __init__(self, terminal: Any) -> None:
        self.terminal = terminal
        self.seen = b""
        self._showing = asyncio.create_task(self._show())

    async def _show(self) -> None:
        async for piece in self.terminal.output():
            self.seen += piece

    async def shows(self, text: bytes) -> None:
        """Wait until a text has come."""
        await eventually(lambda: text in self.seen or self._showing.done(), repr(text))
        assert text in self.seen, self.seen

    async def ended(self) -> bytes:
        """Wait for the end, and return what was shown."""
        await asyncio.wait_for(self._showing, DEADLINE_S)
        return self.seen


async def view(process: Any, **options: Any) -> Viewer:
    """Attach to a process, with a client of either form."""
    terminal = process.attach(**options)
    return Viewer(await terminal if inspect.isawaitable(terminal) else terminal)


async def test_a_terminal_shows_and_takes_keys_until_its_program_ends(ol: AsyncOutlast) -> None:
    process = await ol.start("sh", "-c", "stty size; read x; echo got $x; exit 5", tty={"rows": 30, "cols": 90})
    assert process.info.tty == {"rows": 30, "cols": 90}
    viewer = await view(process)
    await viewer.shows(b"30 90\r\n")
    await viewer.terminal.send("word\n")
    assert await viewer.ended() == b"30 90\r\nword\r\ngot word\r\n"
    assert (await process.wait()).exit_code == 5


async def test_who_comes_later_is_shown_the_screen_and_who_leaves_ends_nothing(ol: AsyncOutlast) -> None:
    process = await ol.start("sh", "-c", "echo first; exec cat", tty={})
    one = await view(process)
    await one.shows(b"first")
    await one.terminal.close()
    await one.ended()
    two = await view(process)
    await two.shows(b"first\r\n")
    await two.terminal.send(b"\4")
    await two.ended()
    assert (await process.wait()).exit_code == 0


async def test_a_terminal_has_the_size_of_the_client_that_said_so(ol: AsyncOutlast) -> None:
    process = await ol.start("sh", "-c", "while read x; do stty size; done", tty={})
    viewer = await view(process)
    await viewer.terminal.resize(20, 70)
    await viewer.terminal.send("\n")
    await viewer.shows(b"20 70\r\n")
    await viewer.terminal.send(b"\4")
    await viewer.ended()


@pytest.mark.slow
async def test_no_byte_is_lost_or_comes_twice_over_kills(ol: AsyncOutlast, daemon: Daemon) -> None:
    process = await ol.start("sh", "-c", COUNT, tty={})
    places: list[int] = []
    viewer = await view(process, on_reconnect=places.append)
    for number in (300, 900, 1500):
        await viewer.shows(f"line {number}\r\n".encode())
        await daemon.kill()
        await daemon.start()
    await viewer.shows(b"line 3000\r\n")
    await viewer.terminal.send("end\n")
    expected = "".join(f"line {number}\r\n" for number in range(1, 3001)).encode() + b"got end\r\n"
    assert await viewer.ended() == expected
    assert len(places) >= 3
    assert places == sorted(places)
    assert await process.bytes() == expected


async def test_keys_that_are_pressed_while_no_daemon_runs_are_typed_later(ol: AsyncOutlast, daemon: Daemon) -> None:
    process = await ol.start("sh", "-c", "stty -echo; echo ready; read x; echo got $x", tty={})
    viewer = await view(process)
    await viewer.shows(b"ready\r\n")
    await daemon.kill()
    await eventually(lambda: is_apart(viewer.terminal))
    await viewer.terminal.send("late")
    await viewer.terminal.send("r\n")
    await daemon.start()
    assert await viewer.ended() == b"ready\r\ngot later\r\n"


def is_apart(terminal: Any) -> bool:
    """Tell whether a client has noticed that its connection is broken."""
    return getattr(terminal, "_target", terminal)._socket is None


async def test_one_leaves_while_no_daemon_runs(ol: AsyncOutlast, daemon: Daemon) -> None:
    viewer = await view(await ol.start("sh", "-c", "echo ready; exec cat", tty={}))
    await viewer.shows(b"ready")
    await daemon.kill()
    await viewer.terminal.close()
    await viewer.ended()
    await daemon.start()


async def test_a_process_without_a_terminal_has_none_to_attach_to(ol: AsyncOutlast) -> None:
    viewer = await view(await ol.start("sleep", "1000"))
    with pytest.raises(NotFound):
        await viewer.ended()


async def test_much_that_is_typed_arrives_whole(ol: AsyncOutlast) -> None:
    program = "stty raw -echo; echo ready; head -c 3000000 | sha256sum"
    process = await ol.start("sh", "-c", program, tty={})
    viewer = await view(process)
    await viewer.shows(b"ready")
    await viewer.terminal.send(b"0123456789" * 300_000)
    expected = hashlib.sha256(b"0123456789" * 300_000).hexdigest()
    assert expected.encode() in await viewer.ended()

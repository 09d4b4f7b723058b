"""`run -t`, `shell` and `attach`, in a real terminal: what it shows, how one leaves, and that it is as before then."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from outlast.cli import attached
from outlast.cli.attached import DetachKey
from outlast.cli.raw_terminal import Modes
from tests.cli.commands import outlast
from tests.cli.tmux import Tmux
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import eventually

LEAVE = ("C-]", "C-]")
OURS = f"{OUTLAST[0]} -m outlast"


@pytest.fixture
def tmux(tmp_path: Path, daemon: Daemon) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing")
    terminal = Tmux(tmp_path, daemon, 100)
    yield terminal
    terminal.end()


async def settings(tmux: Tmux) -> str:
    """Return how the terminal is set, as the shell in it has it."""
    return (await tmux.shows("--version >/dev/null; stty -a")).split("DONE")[0]


@pytest.mark.slow
async def test_a_command_has_a_terminal_of_our_size_and_its_exit_code_is_ours(tmux: Tmux) -> None:
    shown = await tmux.shows("run", "-t", "sh", "-c", "'stty size; tty; exit 3'", "; echo code $?")
    assert "30 100\n/dev/pts/" in shown
    assert "code 3" in shown
    assert "code 143" in await tmux.shows("run", "-t", "sh", "-c", "'kill -TERM $$'", "; echo code $?")
    assert "code 127" in await tmux.shows("run", "-t", "/no/such", "; echo code $?")


@pytest.mark.slow
async def test_one_leaves_and_returns_and_the_terminal_is_as_before(tmux: Tmux, daemon: Daemon) -> None:
    before = await settings(tmux)
    tmux.type(f"{OURS} run -t cat", "Enter")
    tmux.type("one", "Enter")
    await tmux.comes("one\none\n")
    tmux.type(*LEAVE)
    await tmux.comes("outlast: left; `outlast attach @1` returns")
    assert await settings(tmux) == before
    tmux.type(f"clear; {OURS} attach @1; echo code $?", "Enter")
    await tmux.comes("one\none\n")
    tmux.type("two", "Enter")
    await tmux.comes("two\ntwo\n")
    tmux.type("C-d")
    await tmux.comes("code 0")
    assert await settings(tmux) == before
    assert (await daemon.call("GET", "/processes/@1", 200))["exit_code"] == 0


@pytest.mark.slow
async def test_who_leaves_a_line_that_has_not_ended_begins_a_new_one(tmux: Tmux) -> None:
    tmux.type(f"clear; {OURS} run -t sh -c \"printf 'name? '; cat\"", "Enter")
    await tmux.comes("name?")
    tmux.type(*LEAVE)
    await tmux.comes("name?\noutlast: left;")


@pytest.mark.slow
async def test_a_terminal_goes_on_over_a_kill_of_the_daemon(tmux: Tmux, daemon: Daemon) -> None:
    tmux.type(f"clear; {OURS} run -t cat", "Enter")
    tmux.type("one", "Enter")
    await tmux.comes("one\none\n")
    await daemon.kill()
    tmux.type("two", "Enter")
    await daemon.start()
    await tmux.comes("one\none\ntwo\ntwo\n")
    tmux.type(*LEAVE)
    await tmux.comes("returns")


@pytest.mark.slow
async def test_one_leaves_while_no_daemon_answers(tmux: Tmux, daemon: Daemon) -> None:
    tmux.type(f"clear; {OURS} run -t cat", "Enter")
    tmux.type("one", "Enter")
    await tmux.comes("one\none\n")
    await daemon.kill()
    tmux.type(*LEAVE)
    await tmux.comes("returns")
    await daemon.start()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_terminal_is_as_before_when_the_command_is_killed(tmux: Tmux, number: int) -> None:
    before = await settings(tmux)
    program = r"printf '\033[?1049h\033[?1000h\033[?25lhidden\n'; cat"
    tmux.type(f'clear; {OURS} run -t sh -c "{program}"; cat', "Enter")  # behind it no shell that would set the terminal
    await tmux.comes("hidden")
    os.kill(tmux.running(), number)
    await eventually(lambda: "hidden" not in tmux.screen())
    tmux.type("echo", "Enter", "C-d")
    await tmux.comes("echo\necho\n")
    assert await settings(tmux) == before


@pytest.mark.slow
async def test_what_a_program_did_to_the_screen_is_undone_when_one_leaves(tmux: Tmux) -> None:
    program = r"printf 'before\n'; printf '\033[?1049h\033[?25lhidden\n'; cat"
    tmux.type(f'clear; {OURS} run -t sh -c "{program}"', "Enter")
    await tmux.comes("hidden")
    tmux.type(*LEAVE)
    await tmux.comes("returns")
    assert "hidden" not in tmux.screen()
    tmux.type(f"clear; {OURS} attach @1", "Enter")
    await tmux.comes("hidden")
    tmux.type("C-d")


@pytest.mark.slow
async def test_a_window_that_changes_its_size_takes_the_terminal_with_it(tmux: Tmux) -> None:
    tmux.type(f"clear; {OURS} run -t sh -c 'while read x; do stty size; done'", "Enter")
    tmux.type("Enter")
    await tmux.comes("30 100")
    tmux.resize(70, 20)

    async def is_told() -> bool:
        tmux.type("Enter")
        await asyncio.sleep(0.05)
        return "20 70" in tmux.screen()

    await eventually(is_told)
    tmux.type("C-d")


@pytest.mark.slow
async def test_a_shell_is_one_that_was_asked_for(tmux: Tmux, daemon: Daemon) -> None:
    tmux.type(f"SHELL=/bin/sh {OURS} shell -w /tmp", "Enter")
    await eventually(lambda: has_started(daemon, 1))
    tmux.type("clear; pwd; echo ${TERM:+is set} $0", "Enter")
    await tmux.comes("/tmp\nis set /bin/sh\n")
    tmux.type("exit", "Enter")


@pytest.mark.slow
async def test_a_shell_may_be_named(tmux: Tmux) -> None:
    assert "code 4" in await tmux.shows("shell", "sh", "-c", "'exit 4'", "; echo code $?")


async def has_started(daemon: Daemon, handle: int) -> bool:
    async with daemon.session.get(f"{daemon.url}/api/v1/processes/@{handle}") as answer:
        return answer.status == 200


@pytest.mark.slow
async def test_a_process_is_removed_with_its_terminal(tmux: Tmux, daemon: Daemon) -> None:
    assert "hello" in await tmux.shows("run", "-t", "--rm", "echo", "hello")
    assert (await daemon.call("GET", "/processes", 200))["processes"] == []


async def test_what_has_no_terminal_is_told_so(daemon: Daemon) -> None:
    plain = await daemon.sh("sleep 1000")
    for words in (("run", "-t", "cat"), ("shell",), ("attach", plain["id"])):
        said = await outlast(daemon, *words)
        assert said.code == 125
        assert "standard input is not a terminal" in said.err


async def test_a_detached_start_may_have_a_terminal(daemon: Daemon) -> None:
    said = await outlast(daemon, "run", "-d", "-t", "cat")
    assert (await daemon.call("GET", f"/processes/{said.text.strip()}", 200))["tty"] == {"rows": 24, "cols": 80}


# ---- the key that leaves


def test_a_key_leaves_when_it_is_pressed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    key = DetachKey(b"\x1d")
    assert key.feed(b"text") == (b"text", False)
    assert key.feed(b"a\x1db") == (b"a\x1db", False)
    assert key.feed(b"a\x1d") == (b"a", False)
    assert key.expired() == b""
    now += 0.9
    assert key.feed(b"\x1dmore") == (b"", True)
    assert key.feed(b"\x1d\x1d") == (b"", True)


def test_a_key_that_is_pressed_once_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    key = DetachKey(b"\x1d")
    assert key.feed(b"\x1d") == (b"", False)
    now += 1
    assert key.expired() == b"\x1d"
    assert key.left_s() is None
    assert key.feed(b"\x1d") == (b"", False)
    assert key.left_s() == 1
    assert key.feed(b"x") == (b"\x1dx", False)
    assert DetachKey(None).feed(b"\x1d\x1d") == (b"\x1d\x1d", False)


@pytest.mark.parametrize(("word", "key"), [("none", None), ("ctrl-]", b"\x1d"), ("Ctrl-A", b"\1"), ("ctrl-_", b"\x1f")])
def test_keys_have_the_usual_names(word: str, key: bytes | None) -> None:
    context = click.Context(click.Command("x"))
    assert attached._detach_keys(context, context.command.params, word) == key  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["", "x1", "ctrl-1", "f1"])
def test_other_names_of_keys_are_refused(word: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a key"):
        attached._detach_keys(click.Context(click.Command("x")), None, word)  # type: ignore[arg-type]


# ---- the modes of the screen


def test_modes_that_are_left_on_are_changed_back() -> None:
    modes = Modes()
    least = modes.back
    assert not modes.note(b"text \x1b[31m \x1b[?25l")
    assert modes.note(b"\x1b[?1049h\x1b[?1000;1006h")
    assert modes.back == b"\x1b[?1000l\x1b[?1006l\x1b[?1049l" + least
    assert modes.note(b"\x1b[?1000;1006l\x1b[?104")
    assert modes.back == b"\x1b[?1049l" + least
    assert modes.note(b"9l")
    assert modes.back == least
    assert modes.note(b"\x1b[?7l")
    assert modes.back == b"\x1b[?7h" + least

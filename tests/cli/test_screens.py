"""Text for terminals: widths, cuts, colours, what passes and what is shown; and times as people write them."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from pathlib import Path

import click
import pytest

from outlast.cli.logs import _tail
from outlast.cli.moments import duration, read_moment, show_age, show_moment
from outlast.cli.processes import _ordinal
from outlast.cli.run import _size
from outlast.cli.tables import Column, Row, show
from outlast.cli.terminal import cells, colour_of, cut, has_colours, pad, printable
from tests.cli.commands import environment
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import DEADLINE_S, eventually

CHINESE = "\u7f51\u9875\u670d\u52a1"
ARABIC = "\u062e\u062f\u0645\u0629"
ROCKET = "\N{ROCKET} go"
HOSTILE = r"\033]52;c;eA==\007\033[2J\033[31mred\033[0m\rgone\033]0;title\033\\"


# ---- what passes


def test_colours_pass_and_other_escapes_are_shown() -> None:
    line = "\x1b]52;c;eA==\x07 \x1b[31mred\x1b[0m \x1b[2J\x08\x7f\x9b5m \u202eoverride"
    shown = "\u241b]52;c;eA==\u2407 \x1b[31mred\x1b[0m \u241b[2J\u2408\u2421\\x9b5m \\u202eoverride\x1b[0m"
    assert printable(line, colours=True) == shown
    assert "\x1b" not in printable(line, colours=False)
    assert printable("plain\r", colours=False) == "plain"
    assert printable("a\tb", colours=False) == "a       b"


def test_a_colour_that_is_left_on_ends_with_its_line() -> None:
    assert printable("\x1b[31mred", colours=True) == "\x1b[31mred\x1b[0m"


# ---- widths


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), (CHINESE, 8), (ARABIC, 4), (ROCKET, 5), ("e\N{COMBINING ACUTE ACCENT}", 1)]
)
def test_wide_characters_count_as_they_are_shown(text: str, width: int) -> None:
    assert cells(text) == width
    assert cells(pad(text, 12)) == cells(pad(text, 12, right=True)) == 12
    for most in range(1, 12):
        assert cells(cut(text, most)) <= most
    assert cut(text, width) == text


@pytest.mark.parametrize("width", [20, 40, 80, 160])
def test_no_line_of_a_table_is_wider_than_the_screen(width: int) -> None:
    columns = [Column("NAME"), Column("PID", right=True), Column("COMMAND")]
    rows = [
        Row([CHINESE * 9, "1", "x" * 300], {}, "1"),
        Row([ARABIC, "22222", "\x1b[2J\n" + ROCKET * 50], {}, "2"),
        Row(["-", "3", "sh"], {}, "3"),
    ]
    text = show("table", columns, rows, width, colours=False)
    assert len(text.split("\n")) == 4
    assert max(cells(line) for line in text.split("\n")) <= width
    assert "\x1b" not in text
    assert "x" * 300 in show("table", columns, rows, None, colours=False)


# ---- colours


def test_colours_are_asked_for_in_the_usual_ways() -> None:
    assert has_colours("auto", {}, is_terminal=True)
    assert not has_colours("auto", {}, is_terminal=False)
    assert not has_colours("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, is_terminal=True)
    assert has_colours("auto", {"FORCE_COLOR": "1"}, is_terminal=False)
    assert not has_colours("auto", {"TERM": "dumb"}, is_terminal=True)
    assert has_colours("always", {"NO_COLOR": "1"}, is_terminal=False)
    assert not has_colours("never", {"FORCE_COLOR": "1"}, is_terminal=True)


def test_the_colour_of_a_process_follows_from_its_id() -> None:
    assert colour_of("01M8GCA5F18CQA7GVJB1QFG5D0") == colour_of("01M8GCA5F18CQA7GVJB1QFG5D0")
    assert len({colour_of(str(number)) for number in range(200)}) == 12


# ---- times and sizes


NOW = 1_795_860_000_000  # 2026-11-28T10:00:00Z


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        ("10m", NOW - 600_000),
        ("2h30m", NOW - 9_000_000),
        ("@1795860000", NOW),
        ("@1795860000.5", NOW + 500),
        ("2026-11-28T10:00:00Z", NOW),
        ("2026-11-28T11:00:00+01:00", NOW),
        ("2026-11-28", NOW - 10 * 3_600_000),
        ("today", NOW - 10 * 3_600_000),
        ("yesterday", NOW - 34 * 3_600_000),
        ("09:30", NOW - 1_800_000),
        ("09:30:30", NOW - 1_770_000),
    ],
)
def test_times_are_read(word: str, moment: int) -> None:
    assert read_moment(word, NOW, UTC) == moment


def test_times_without_a_zone_are_of_the_zone_of_the_machine() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    assert read_moment("15:30", NOW, india) == NOW
    assert show_moment(NOW, "clock", india) == "15:30:00.000"
    assert show_moment(NOW, "iso", UTC) == "2026-11-28T10:00:00.000Z"


def test_durations_and_sizes_are_read_and_shown() -> None:
    assert [duration(word) for word in ("10", "10s", "500ms", "2h30m", "1.5")] == [10, 10, 0.5, 9000, 1.5]
    assert [_size(word) for word in ("10", "64K", "512M", "2g", "1GiB")] == [10, 65536, 512 << 20, 2 << 30, 1 << 30]
    assert [_tail(word) for word in ("0", "10", "all")] == [0, 10, -1]
    for read, wrong in ((duration, "soon"), (_size, "much"), (_tail, "-1")):
        with pytest.raises(click.BadParameter, match=wrong):
            read(wrong)
    assert [show_age(seconds) for seconds in (-1, 9, 61, 3720, 90000)] == ["0s", "9s", "1m01s", "1h02m", "1d01h"]
    assert [_ordinal(number) for number in (1, 2, 3, 4, 11, 12, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
        "112th",
    ]


# ---- a real terminal


class Tmux:
    """A terminal of a width, in which commands are typed."""

    def __init__(self, folder: Path, daemon: Daemon, width: int) -> None:
        self._command = ["tmux", "-S", str(folder / "tmux")]
        self._typed = 0
        env = environment(daemon, PS1="$ ", TERM="", PAGER="sed -e s/^/paged/ -e 5q")
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            env.pop(name)
        size = ["-x", str(width), "-y", "30"]
        subprocess.run(
            [*self._command, "-f", "/dev/null", "new-session", "-d", *size, "bash --norc --noprofile"],
            check=True,
            env=env,
        )

    def screen(self, *, colours: bool = False) -> str:
        """Return what is on the screen, with the colours as escape sequences if that is asked for."""
        capture = [*self._command, "capture-pane", "-p", *(["-e"] if colours else [])]
        return subprocess.run(capture, check=True, capture_output=True, text=True).stdout

    async def shows(self, *words: str) -> str:
        """Type a command, wait until it has ended, and return the screen."""
        self._typed += 1
        line = f"clear; {OUTLAST[0]} -m outlast {' '.join(words)}; echo DO''NE {self._typed}"
        subprocess.run([*self._command, "send-keys", line, "Enter"], check=True)
        await eventually(lambda: f"\nDONE {self._typed}\n" in self.screen(), " ".join(words))
        return self.screen()

    def end(self) -> None:
        """End the terminal."""
        subprocess.run([*self._command, "kill-server"], check=True)


@pytest.fixture(params=[80, 160])
def tmux(tmp_path: Path, daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing")
    terminal = Tmux(tmp_path, daemon, request.param)
    yield terminal
    terminal.end()


@pytest.mark.slow
async def test_screens_hold_whatever_processes_are_called_and_print(tmux: Tmux, daemon: Daemon) -> None:
    for name in (CHINESE, ARABIC, ROCKET):
        await daemon.sh(f"echo {name}; sleep 1000", name=name, restart={"policy": "never"})
    hostile = await daemon.ended(await daemon.sh(f"printf '{HOSTILE}\\nend\\n'; : {'x' * 300}"))
    listed = (await tmux.shows("ps")).split("DONE")[0].rstrip("\n").split("\n")
    assert len(listed) == 5  # nothing wraps
    assert [line.split()[0] for line in listed[1:]] == ["-", "\N{ROCKET}", ARABIC, CHINESE]
    assert listed[1].endswith("…")
    shown = await tmux.shows("logs", hostile["id"])
    assert "\u241b]52;c;eA==\u2407\u241b[2Jred\u240dgone\u241b]0;title\u241b\\" in shown
    assert "end\n" in shown
    assert "\x1b[31mred" in tmux.screen(colours=True)
    followed = await tmux.shows("logs", "-n", "5", "-t", f"'{CHINESE}'", f"'{ROCKET}'")
    assert f"── {time.strftime('%Y-%m-%d', time.gmtime())} UTC ──" in followed
    assert [line.partition("│")[0] for line in followed.split("\n") if "│" in line] == [f"{CHINESE} ", f"{ROCKET}    "]


@pytest.mark.slow
async def test_output_that_is_longer_than_the_screen_goes_through_the_pager(tmux: Tmux, daemon: Daemon) -> None:
    short, long = await daemon.ended(await daemon.sh("seq 20")), await daemon.ended(await daemon.sh("seq 100000"))
    assert "paged" not in await tmux.shows("logs", short["id"])
    assert (await tmux.shows("logs", long["id"])).startswith("paged1\npaged2\npaged3\npaged4\npaged5\nDONE")


# ---- the start


def test_commands_load_what_they_need() -> None:
    program = "import sys; import outlast.cli.processes; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    slow = {
        "aiohttp",
        "asyncio",
        "httpx",
        "rich",
        "orjson",
        "logging",
        "secrets",
        "csv",
        "tomllib",
        "outlast.api",
        "outlast.core",
    }
    assert loaded & slow == set()


@pytest.mark.slow
def test_the_list_of_commands_has_all_of_them() -> None:
    said = subprocess.run([*OUTLAST, "--help"], capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
    commands = "events inspect kill logs ps restart rm run search send serve shutdown signal sql stop wait"
    for command in commands.split(" "):
        assert f"\n  {command} " in said
    assert json.dumps("down") not in said

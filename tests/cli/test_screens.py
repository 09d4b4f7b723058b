"""Text for terminals: widths, cuts, colours, what passes and what is shown; and times as people write them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import pytest

from outlast.cli.logs import _tail
from outlast.cli.moments import duration, read_moment, show_age, show_moment
from outlast.cli.processes import _ordinal, what_is_missing
from outlast.cli.queries import _marked
from outlast.cli.start_options import read_size
from outlast.cli.tables import Column, Row, show, show_size
from outlast.cli.terminal import cells, colour_of, cut, has_colours, pad, printable
from outlast.client import Match
from outlast.client.items import gap_of
from tests.cli.commands import environment
from tests.cli.tmux import Tmux
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import DEADLINE_S

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


def test_what_a_search_has_found_is_in_colour() -> None:
    given: Any = {"process_id": "P", "handle": 1, "name": "n", "command": "c", "run": 1, "pid": 1, "seq": 1}
    match = Match(**given, timestamp=0, stream="stdout", line="\x07 one two", spans=[[2, 5], [5, 5], [6, 9]])
    assert _marked(match, colours=True) == "\u2407 \x1b[1;31mone\x1b[0m \x1b[1;31mtwo\x1b[0m"
    assert _marked(match, colours=False) == "\u2407 one two"
    coloured = replace(match, line="\x1b[32mone\x1b[0m")
    assert _marked(coloured, colours=True) == "\x1b[32mone\x1b[0m\x1b[0m"


def test_gaps_tell_a_number_only_if_it_is_known() -> None:
    lost = gap_of({"from": 1_000_007, "to": 1_000_007, "reason": "lost"})
    assert what_is_missing(lost) == "output is missing here: lost"
    data = {"from": 1, "to": 12_000, "reason": "retention", "lines": 11_999, "bytes": 70_000}
    deleted = "a limit has deleted 11,999 lines (68K) of the process in all"
    assert what_is_missing(gap_of(data)) == f"12,000 lines are missing here: {deleted}"
    assert what_is_missing(gap_of({**data, "from": 12_000})) == f"1 line is missing here: {deleted}"


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


def test_a_narrow_screen_leaves_columns_out_before_it_cuts_them() -> None:
    columns = [Column("NAME"), Column("STATUS"), Column("CPU", leaves=2), Column("COMMAND", leaves=1)]
    rows = [Row(["web", "up", "99.0%", "x" * 99], {}, "1")]

    def titles(width: int) -> list[str]:
        return show("table", columns, rows, width, colours=False).split("\n")[0].split()

    assert titles(80) == titles(33) == ["NAME", "STATUS", "CPU", "COMMAND"]
    assert titles(32) == titles(26) == ["NAME", "STATUS", "COMMAND"]
    assert titles(25) == titles(12) == ["NAME", "STATUS"]


def test_a_narrow_screen_cuts_the_command_before_the_status() -> None:
    columns = [Column("STATUS"), Column("COMMAND", gives=True)]
    rows = [Row(["killed by SIGTERM", "x" * 99], {}, "1")]
    assert show("table", columns, rows, 28, colours=False).split("\n")[1] == f"killed by SIGTERM  {'x' * 8}…"
    assert max(map(len, show("table", columns, rows, 20, colours=False).split("\n"))) <= 20


def test_sizes_take_four_characters() -> None:
    sizes = (0, 999, 1000, 1 << 20, 48 << 20, 1_288_490_189, 9.97 * (1 << 30), 1 << 60)
    shown = [show_size(round(size)) for size in sizes]
    assert shown == ["0B", "999B", "1.0K", "1.0M", "48M", "1.2G", "10G", "1.0E"]


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
    assert [read_size(word) for word in ("10", "64K", "512M", "2g", "1GiB")] == [10, 65536, 512 << 20, 2 << 30, 1 << 30]
    assert [_tail(word) for word in ("0", "10", "all")] == [0, 10, -1]
    for read, wrong in ((duration, "soon"), (read_size, "much"), (_tail, "-1")):
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
    assert [line.split()[1] for line in listed[1:]] == ["-", "\N{ROCKET}", ARABIC, CHINESE]
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


@pytest.mark.slow
async def test_a_command_that_waits_for_a_daemon_says_so(daemon: Daemon) -> None:
    """While no daemon runs, the shim keeps the address, and connections wait."""
    await daemon.run("sleep", "1000", name="web", restart={"policy": "never"})
    await daemon.kill()
    ours, theirs = os.openpty()
    said = b""

    async def says(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += await asyncio.wait_for(asyncio.to_thread(os.read, ours, 10_000), DEADLINE_S)

    listing = await asyncio.create_subprocess_exec(
        *OUTLAST, "ps", stdin=theirs, stdout=theirs, stderr=theirs, env=environment(daemon)
    )
    os.close(theirs)
    try:
        await says(f"outlast: no daemon answers at {daemon.url} yet".encode())
        await daemon.start()
        await says(b"sleep 1000")
        assert await asyncio.wait_for(listing.wait(), DEADLINE_S) == 0
    finally:
        os.close(ours)
        if listing.returncode is None:
            listing.kill()
            await listing.wait()


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


def test_an_unknown_command_is_told_the_nearest() -> None:
    for word, hint in (("lgos", " Did you mean logs?"), ("shutdwon", " Did you mean shutdown?"), ("xyzzy", "")):
        said = subprocess.run([*OUTLAST, word], capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr.endswith(f"\nError: No such command '{word}'.{hint}\n")


@pytest.mark.slow
def test_the_list_of_commands_has_all_of_them() -> None:
    said = subprocess.run([*OUTLAST, "--help"], capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
    commands = (
        "attach completion events inspect kill logs ps restart rm run search send serve shell shutdown signal sql stop "
        "wait"
    )
    for command in commands.split(" "):
        assert f"\n  {command} " in said
    assert json.dumps("down") not in said

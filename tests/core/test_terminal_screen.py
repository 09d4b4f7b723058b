"""The last part of a terminal's output, wherever it is cut, shows the same screen as all of it."""

import random

import pyte

from outlast.core.terminals.screen import tail

ROWS, COLS = 10, 40


def screen_of(output: bytes) -> list[str]:
    screen = pyte.Screen(COLS, ROWS)
    pyte.ByteStream(screen).feed(output)
    return list(screen.display)


def look_of(output: bytes) -> tuple[object, ...]:
    """Return how an emulator shows what comes next."""
    screen = pyte.Screen(COLS, ROWS)
    pyte.ByteStream(screen).feed(output + b"\x1b[1;1HX")
    cell = screen.buffer[0][0]
    return cell.fg, cell.bg, cell.bold, cell.reverse, frozenset(screen.mode), screen.margins


def drawn(rng: random.Random, screens: int) -> bytes:
    """Return output of a program that clears the screen and draws on it, in colors."""
    parts = []
    for _ in range(screens):
        parts.append(rng.choice([b"\x1b[H\x1b[2J", b"\x1b[2J\x1b[H", b"\x1b[H\x1b[J"]))
        for _ in range(rng.randrange(30)):
            place = b"\x1b[%d;%dH" % (rng.randrange(1, ROWS), rng.randrange(1, COLS - 10))
            parts.append(place + b"\x1b[%dm" % rng.choice([0, 1, 7, 31, 44]) + rng.randbytes(3).hex().encode())
    return b"".join(parts)


def test_short_output_is_sent_as_it_is() -> None:
    assert tail(b"hello\n", 100) == b"hello\n"
    assert tail(b"x" * 100, 100) == b"x" * 100


def test_a_cut_output_shows_the_same_screen() -> None:
    rng = random.Random(1)
    for _ in range(200):
        output = drawn(rng, 20)
        cut = tail(output, rng.randrange(len(output) // 4, len(output)))
        assert screen_of(cut) == screen_of(output)
        assert look_of(cut) == look_of(output)


def test_modes_that_were_set_before_the_cut_are_set() -> None:
    modes = b"\x1b[?25l\x1b[?7l\x1b[31;1m\x1b[3;8r"
    for after in (b"", b"\x1b[H\x1b[2J"):
        output = modes + b"x" * 50 + b"\n" + after + b"y\n" * 400
        assert look_of(tail(output, 700)) == look_of(output)


def test_a_reset_forgets_modes() -> None:
    output = b"\x1b[?7l\x1b[31m\x1bc" + b"x\n" * 500
    assert look_of(tail(output, 100)) == look_of(output)


def test_lines_are_cut_at_their_ends() -> None:
    output = b"".join(b"line %d\r\n" % number for number in range(1000))
    cut = tail(output, 301)
    assert cut.endswith(output[-200:])
    assert screen_of(cut) == screen_of(output)


def test_what_was_shown_before_the_screen_was_cleared_is_left_out() -> None:
    for clear in (b"\x1b[H\x1b[2J", b"\x1b[2J", b"\x1bc", b"\x1b[?1049h", b"\x1b[1;1H\x1b[J"):
        output = b"before\n" * 100 + b"\x1b]0;title" + b"x" * 50 + b"\7" + clear + b"after"
        assert tail(output, 30 + len(clear)).endswith(b"\x1b[2J" + clear + b"after")


def test_a_cut_without_a_clear_begins_at_a_line() -> None:
    assert tail(b"one\ntwo\nthree\n", 9).endswith(b"\x1b[2Jthree\n")

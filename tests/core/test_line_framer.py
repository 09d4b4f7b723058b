"""The line framer: blocks of whole lines, however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.output.line_framer import Block, LineFramer, count_held

LIMIT = 16
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=3 * LIMIT),
        st.lists(st.sampled_from([b"\n", b"a", b"bc", "ü".encode(), "€".encode(), "😀".encode(), b"\xff"])).map(
            b"".join
        ),
    )
)
EURO = "€".encode()


def data_of(blocks: list[Block]) -> list[bytes]:
    return [block.data for block in blocks]


def lines_of(blocks: list[Block]) -> list[bytes]:
    """Return the lines of blocks, with those joined that continue one."""
    lines: list[bytes] = []
    for block in blocks:
        *whole, last = block.data.split(b"\n")
        found = [line + b"\n" for line in whole] + [last] * bool(last)
        if block.continues:
            assert not lines[-1].endswith(b"\n")
            lines[-1] += found.pop(0)
        lines += found
    return lines


def plain_lines(data: bytes) -> list[bytes]:
    """Cut `data` into lines of at most the limit, byte by byte."""
    lines, line = [], b""
    for number in range(len(data)):
        byte = data[number : number + 1]
        if byte != b"\n" and len(line) == LIMIT:
            held = count_held(line)
            lines.append(line[: LIMIT - held])
            line = line[LIMIT - held :]
        line += byte
        if byte == b"\n":
            lines.append(line)
            line = b""
    return lines + [line] * bool(line)


@given(PIECES, st.data())
def test_lines_depend_neither_on_how_bytes_arrive_nor_on_flushes(pieces: list[bytes], data: st.DataObject) -> None:
    """Nor on a daemon that takes over within a line, and knows only how much of it was returned."""
    framer = LineFramer(LIMIT)
    blocks: list[Block] = []
    for piece in pieces:
        blocks += framer.feed(piece)
        assert framer.pending_bytes <= LIMIT
        if data.draw(st.booleans()):
            can_flush = framer.can_flush
            flushed = framer.flush()
            assert bool(flushed) == can_flush
            blocks += flushed
            assert framer.pending_bytes <= 3
        if data.draw(st.booleans()):
            pending = b"".join(data_of(framer.finish()))
            lines = lines_of(blocks)
            begun_bytes = len(lines[-1]) if lines and not lines[-1].endswith(b"\n") else 0
            framer = LineFramer(LIMIT, begun_bytes=begun_bytes)
            blocks += framer.feed(pending)
    blocks += framer.finish()
    assert all(data_of(blocks))
    assert lines_of(blocks) == plain_lines(b"".join(pieces))
    assert framer.pending_bytes == 0


@given(st.text(min_size=1, max_size=10 * LIMIT).filter(lambda text: "\n" not in text), st.data())
def test_no_block_cuts_a_character(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    framer = LineFramer(LIMIT)
    blocks: list[Block] = []
    for start in range(len(raw)):
        blocks += framer.feed(raw[start : start + 1])
        if data.draw(st.booleans()):
            blocks += framer.flush()
    blocks += framer.finish()
    for block in blocks:
        block.data.decode()
    assert b"".join(data_of(blocks)) == raw


def test_a_flush_holds_back_an_incomplete_character() -> None:
    framer = LineFramer()
    assert framer.feed(b"price: " + EURO[:2]) == []
    assert framer.flush() == [Block(b"price: ")]
    assert framer.pending_bytes == 2
    assert not framer.can_flush
    assert framer.flush() == []
    assert framer.feed(EURO[2:] + b"5\nnext\n") == [Block(EURO + b"5\nnext\n", continues=True)]
    assert framer.feed(b"another\n") == [Block(b"another\n")]


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"a", 0),
        (b"\xc3", 1),
        (b"\xe2\x82", 2),
        (b"\xf0\x9f\x98", 3),
        (b"\xf4\x8f\xbf", 3),
        (b"\xe2\x82\xac", 0),
        ("😀".encode(), 0),
        (b"\xe2\x82a", 0),
        (b"\xac\xac\xac\xc3", 1),
        (b"\x80", 0),
        (b"\xc0", 0),
        (b"\xc1", 0),
        (b"\xf5", 0),
        (b"\xff", 0),
        (b"\xe0\x80", 0),
        (b"\xed\xa0", 0),
        (b"\xf0\x80\x80", 0),
        (b"\xf4\x90", 0),
        (b"", 0),
    ],
)
def test_only_the_beginning_of_a_valid_character_is_held_back(data: bytes, held: int) -> None:
    for before in (b"", b"x", EURO):
        assert count_held(before + data) == held


def test_the_end_of_a_stream_returns_an_incomplete_character() -> None:
    framer = LineFramer()
    framer.feed(b"\xe2\x82")
    assert framer.flush() == []
    assert framer.finish() == [Block(b"\xe2\x82")]
    assert framer.finish() == []


def test_a_line_as_long_as_the_limit_is_whole() -> None:
    framer = LineFramer(4)
    assert framer.feed(b"abcd") == []
    assert framer.feed(b"\n") == [Block(b"abcd\n")]
    assert framer.feed(b"abcde\n") == [Block(b"abcd"), Block(b"e\n")]
    assert framer.feed(b"abcdefghi") == [Block(b"abcd"), Block(b"efgh")]
    assert framer.feed(b"\nx\ny") == [Block(b"i\nx\n")]
    assert framer.finish() == [Block(b"y")]


def test_parts_count_for_the_limit() -> None:
    framer = LineFramer(4)
    framer.feed(b"abc")
    assert framer.flush() == [Block(b"abc")]
    assert framer.feed(b"defghij") == [Block(b"d", continues=True), Block(b"efgh")]
    framer = LineFramer(4, begun_bytes=4)
    assert framer.feed(b"\n") == [Block(b"\n", continues=True)]
    framer = LineFramer(4, begun_bytes=4)
    assert framer.feed(b"a\n") == [Block(b"a\n")]
    framer = LineFramer(4, begun_bytes=3)
    framer.start_line()
    assert framer.feed(b"abc\n") == [Block(b"abc\n")]

"""The line framer: blocks of whole lines, however the bytes arrive."""

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.output.line_framer import LineFramer

LIMIT = 16
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=3 * LIMIT),
        st.lists(st.sampled_from([b"\n", b"a", b"bc", "ü".encode(), "€".encode(), "😀".encode(), b"\xff"])).map(
            b"".join
        ),
    )
)


@given(PIECES, st.data())
def test_nothing_is_lost_added_or_moved(pieces: list[bytes], data: st.DataObject) -> None:
    framer = LineFramer(LIMIT)
    blocks: list[bytes] = []
    for piece in pieces:
        blocks += framer.feed(piece)
        assert framer.pending_bytes <= LIMIT
        if data.draw(st.booleans()):
            blocks += framer.flush()
    blocks += framer.finish()
    assert b"".join(blocks) == b"".join(pieces)
    assert all(blocks)
    assert framer.pending_bytes == 0


@given(PIECES)
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    def lines(parts: list[bytes]) -> list[bytes]:
        framer = LineFramer(LIMIT)
        found = []
        for block in [block for part in parts for block in framer.feed(part)] + framer.finish():
            *whole, last = block.split(b"\n")
            found += [line + b"\n" for line in whole] + [last] * bool(last)
        return found

    whole = b"".join(pieces)
    assert lines(pieces) == lines([whole]) == lines([whole[i : i + 1] for i in range(len(whole))])


@given(PIECES)
def test_only_lines_over_the_limit_are_split(pieces: list[bytes]) -> None:
    framer = LineFramer(LIMIT)
    blocks = [block for piece in pieces for block in framer.feed(piece)]
    for block in blocks:
        if block.endswith(b"\n"):
            assert all(len(line) <= LIMIT for line in block.split(b"\n"))
        else:
            assert LIMIT - 3 <= len(block) <= LIMIT


@given(st.text(min_size=1, max_size=10 * LIMIT).filter(lambda text: "\n" not in text), st.data())
def test_no_block_cuts_a_character(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    framer = LineFramer(LIMIT)
    blocks = []
    for start in range(len(raw)):
        blocks += framer.feed(raw[start : start + 1])
        if framer.pending_bytes >= 4 and data.draw(st.booleans()):  # fewer bytes may be one incomplete character
            blocks += framer.flush()
    blocks += framer.finish()
    for block in blocks:
        block.decode()
    assert b"".join(blocks) == raw


def test_a_flush_holds_back_an_incomplete_character() -> None:
    framer = LineFramer()
    euro = "€".encode()
    assert framer.feed(b"price: " + euro[:2]) == []
    assert framer.flush() == [b"price: "]
    assert framer.pending_bytes == 2
    assert framer.feed(euro[2:] + b"5\n") == [euro + b"5\n"]


def test_a_flush_returns_an_incomplete_character_if_nothing_else_is_pending() -> None:
    framer = LineFramer()
    framer.feed(b"\xc3")
    assert framer.flush() == [b"\xc3"]
    assert framer.pending_bytes == 0
    assert framer.flush() == []


def test_a_line_as_long_as_the_limit_is_whole() -> None:
    framer = LineFramer(4)
    assert framer.feed(b"abcd") == []
    assert framer.feed(b"\n") == [b"abcd\n"]
    assert framer.feed(b"abcde\n") == [b"abcd", b"e\n"]
    assert framer.feed(b"abcdefghi") == [b"abcd", b"efgh"]
    assert framer.feed(b"\nx\ny") == [b"i\nx\n"]
    assert framer.finish() == [b"y"]

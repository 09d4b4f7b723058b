"""The view shows each line as `Chunk.lines` does, whatever the bytes are."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plain_sql import register_sqlar_uncompress
from outlast.model.output import Stream
from outlast.storage.sqlite import migrate
from outlast.storage.sqlite.commit import commit
from outlast.testing.storage.model import whole_lines
from outlast.testing.storage.samples import Output, new_process

_NASTY = [
    "\n",
    "\r\n",
    "\t",
    '"',
    "\\",
    "\\n",
    "\\u0000",
    "\\\\",
    "','",
    '","',
    "[",
    "]",
    "{",
    "}",
    "é",
    "😀",
    "a",
    " ",
]
_NASTY += ["\0", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u2029", "\ue000", "\u2400", "\ufdd0", "\ufffd"]
_NOT_TEXT = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f"]
_pieces = st.sampled_from([piece.encode() for piece in _NASTY] + _NOT_TEXT)
_data = st.lists(_pieces, min_size=1, max_size=40).map(b"".join) | st.binary(min_size=1)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("view") / "outlast.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        migrate.apply(db)
        register_sqlar_uncompress(db)
        db.text_factory = bytes
        yield db


def _shown(line: bytes) -> bytes:
    """Return a line as the view shows it: without its end, with NUL visible and the noncharacter as a backslash."""
    return line.removesuffix(b"\n").replace(b"\0", "\u2400".encode()).replace("\ufdd0".encode(), b"\\")


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.tuples(st.none() | _data, st.sampled_from(Stream), st.booleans()), min_size=1, max_size=5))
def test_both_views_show_the_lines_of_the_chunks(
    database: sqlite3.Connection, data: list[tuple[bytes | None, Stream, bool]]
) -> None:
    process = new_process()
    handle = commit(database, [process])[process.spec.id]
    output = Output(handle)
    chunks = [
        output.gap(n, stream, ts_ms=n) if text is None else output.chunk(text, stream, ts_ms=n, continues=continues)
        for n, (text, stream, continues) in enumerate(data)
    ]
    commit(database, chunks)
    expected = [
        (line.seq, line.ts_ms, line.stream.word.encode(), _shown(text))
        for line in whole_lines(chunks)
        if (text := line.text()) is not None
    ]
    for view in ("output_lines", "output_tail", "output_lines_portable", "output_tail_portable"):
        rows = database.execute(
            f"SELECT seq, ts, stream, line FROM {view} WHERE process_id = ? ORDER BY seq",  # noqa: S608
            (process.spec.id,),
        ).fetchall()
        assert rows == expected
    gaps = [
        (process.spec.id.encode(), 1, chunk.first_seq, chunk.ts_ms, chunk.stream.word.encode(), b"lost", chunk.ts_ms)
        for chunk in chunks
        if chunk.gap
    ]
    rows = database.execute(
        "SELECT process_id, run, seq, ts, stream, reason, missing_bytes FROM output_gaps WHERE process_id = ?"
        " ORDER BY seq",
        (process.spec.id,),
    ).fetchall()
    assert rows == gaps


@settings(max_examples=200, deadline=None)
@given(ts_ms=st.integers(min_value=0, max_value=4_102_444_800_000))
def test_times_are_readable_to_the_millisecond(database: sqlite3.Connection, ts_ms: int) -> None:
    process = new_process(started_at_ms=ts_ms)
    handle = commit(database, [process])[process.spec.id]
    commit(database, [Output(handle).chunk(b"x\n", ts_ms=ts_ms)])
    (shown,) = database.execute(
        "SELECT l.time FROM output_lines l JOIN processes p ON p.id = l.process_id AND p.started = l.time"
        " WHERE l.process_id = ?",
        (process.spec.id,),
    ).fetchone()
    (seconds,) = database.execute(
        "SELECT strftime('%s', substr(CAST(? AS TEXT), 1, 19)) || substr(CAST(? AS TEXT), 21, 3)", (shown, shown)
    ).fetchone()
    assert int(seconds) == ts_ms


def test_the_tail_view_holds_the_last_hundred_chunks(database: sqlite3.Connection) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    commit(database, [output.chunk(b"%d\n" % n, Stream(n % 2 + 1)) for n in range(250)])
    rows = database.execute("SELECT line FROM output_tail WHERE process_id = ? ORDER BY seq", (process.spec.id,))
    assert [int(line) for (line,) in rows] == list(range(150, 250))


def test_gaps_do_not_shorten_the_tail_view(database: sqlite3.Connection) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    commit(database, [output.chunk(b"%d\n" % n) if n % 2 else output.gap() for n in range(250)])
    rows = database.execute("SELECT line FROM output_tail WHERE process_id = ? ORDER BY seq", (process.spec.id,))
    assert [int(line) for (line,) in rows] == list(range(51, 250, 2))


def test_the_cost_of_a_line_in_many_parts_grows_with_the_parts(database: sqlite3.Connection) -> None:
    """Each part is put in front once, where the line ends, and not in front of every later part."""

    def steps(parts: int, view: str) -> int:
        process = new_process()
        output = Output(commit(database, [process])[process.spec.id])
        commit(database, [output.chunk(b".", continues=True) for _ in range(parts)])
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        database.set_progress_handler(step, 1)
        rows = database.execute(f"SELECT seq, line FROM {view} WHERE process_id = ?", (process.spec.id,)).fetchall()  # noqa: S608
        database.set_progress_handler(None, 1)
        assert rows == [(parts, b"." * parts)]
        return count

    for view in ("output_lines", "output_tail"):
        assert steps(1000, view) < 2.2 * steps(500, view)


def test_a_large_chunk_is_split(database: sqlite3.Connection) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    chunk = output.chunk(b"".join(b"line \\ %d\n" % n for n in range(80_000)))
    commit(database, [chunk])
    rows = database.execute("SELECT line FROM output_lines WHERE process_id = ? ORDER BY seq", (process.spec.id,))
    assert [line for (line,) in rows] == [_shown(line) for line in chunk.lines()]


@pytest.mark.parametrize("view", ["output_lines", "output_tail", "output_gaps", "output_lines_portable"])
def test_only_the_chunks_of_the_process_asked_for_are_expanded(database: sqlite3.Connection, view: str) -> None:
    plan = database.execute(
        f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE process_id = 'x' AND ts > 5 ORDER BY seq DESC LIMIT 50"  # noqa: S608
    )
    details = [detail.decode() for _, _, _, detail in plan]
    of_process = [line.strip() for line in details if line.strip().startswith(("SEARCH p ", "SCAN p "))]
    assert set(of_process) == {"SEARCH p USING COVERING INDEX sqlite_autoindex_process_1 (id=?)"}
    assert not [line for line in details if line.startswith("SCAN") and line[5] in "cp"], details

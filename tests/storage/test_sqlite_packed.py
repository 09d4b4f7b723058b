"""Packed rows: lines of alternating streams, and parts of lines, become one row."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from harness.plain_sql import register_sqlar_uncompress
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.storage.base import CompleteOutput
from outlast.storage.sqlite import read
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.maintenance.compaction import STEP_ROWS, apply_compaction, plan_compaction
from outlast.storage.sqlite.rows import MAX_MERGED_LINES
from outlast.testing.storage.samples import Output, new_process
from tests.storage.comparisons import check_histogram, check_tail
from tests.storage.stores import commit_each


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(path, durable=False)) as db:
        db.execute("PRAGMA synchronous = OFF")
        register_sqlar_uncompress(db)
        yield db


def _compact(db: sqlite3.Connection, handle: int, *, min_rows: int = 2) -> None:
    while plan := plan_compaction(db, handle, min_rows=min_rows, for_pages=True):
        apply_compaction(db, [plan])


def _packed(db: sqlite3.Connection, handle: int) -> list[tuple[int, int]]:
    """Return the first line and the number of lines of each packed row."""
    return db.execute(
        "SELECT first_seq, line_count FROM output_chunk WHERE handle = ? AND stream = 0 ORDER BY first_seq", (handle,)
    ).fetchall()


def _complete(db: sqlite3.Connection, output: Output, chunks: Sequence[Chunk]) -> None:
    commit_each(db, chunks)
    commit(db, [CompleteOutput(output.handle, 1)])
    _compact(db, output.handle)


@pytest.fixture
def output(database: sqlite3.Connection) -> Output:
    process = new_process()
    return Output(commit(database, [process])[process.spec.id])


def test_lines_of_alternating_streams_become_one_row(database: sqlite3.Connection, output: Output) -> None:
    chunks = [output.chunk(b"%d\n" % n, Stream(n % 2 + 1), ts_ms=n) for n in range(100)]
    _complete(database, output, chunks)
    assert _packed(database, output.handle) == [(1, 100)]


def test_the_parts_of_a_line_become_one_row(database: sqlite3.Connection, output: Output) -> None:
    parts = [output.chunk(b"%d%%\r" % n, continues=n > 0, ts_ms=n) for n in range(100)]
    _complete(database, output, [*parts, output.chunk(b"done\n", continues=True)])
    assert _packed(database, output.handle) == [(1, 101)]


def test_a_line_of_more_parts_than_a_step_becomes_one_row(database: sqlite3.Connection, output: Output) -> None:
    parts = [output.chunk(b"x", continues=n > 0, ts_ms=n) for n in range(2 * STEP_ROWS)]
    _complete(database, output, [*parts, output.chunk(b"\n", continues=True)])
    assert _packed(database, output.handle) == [(1, 2 * STEP_ROWS + 1)]


def test_a_line_of_more_parts_than_a_row_takes_stays_as_it_came(database: sqlite3.Connection, output: Output) -> None:
    parts = [output.chunk(b"x", continues=n > 0) for n in range(MAX_MERGED_LINES + 10)]
    parts.append(output.chunk(b"\n", continues=True))
    after = [output.chunk(b"x\n", Stream(n % 2 + 1)) for n in range(100)]
    _complete(database, output, [*parts, *after])
    assert _packed(database, output.handle) == [(MAX_MERGED_LINES + 12, 100)]


def test_a_prompt_between_lines_of_the_other_stream_is_packed_with_them(
    database: sqlite3.Connection, output: Output
) -> None:
    chunks = [
        output.chunk(b"name: "),
        output.chunk(b"warning\n", Stream.STDERR),
        output.chunk(b"Ada\n", continues=True),
    ]
    _complete(database, output, chunks)
    assert _packed(database, output.handle) == [(1, 3)]
    shown = database.execute(
        "SELECT l.seq, l.line FROM output_lines l JOIN process p ON p.id = l.process_id WHERE p.handle = ? ORDER BY 1",
        (output.handle,),
    )
    assert shown.fetchall() == [(2, "warning"), (3, "name: Ada")]


def test_a_line_that_was_given_up_is_not_joined_with_the_next(database: sqlite3.Connection, output: Output) -> None:
    chunks = [
        output.chunk(b"cut off"),
        *(output.chunk(b"%d\n" % n, Stream(n % 2 + 1)) for n in range(20)),
    ]
    _complete(database, output, chunks)
    assert read.chunks(database, ChunkQuery(handle=output.handle, max_bytes=1 << 30)) == chunks


def test_a_packed_row_is_read_backwards_from_the_middle(database: sqlite3.Connection, output: Output) -> None:
    """Also from between the parts of a line: its earlier parts alone are no line."""
    err = Stream.STDERR
    chunks = [
        output.chunk(b"a\n", err),
        output.chunk(b"b\nc"),
        output.chunk(b"d\n", err),
        output.chunk(b"c", continues=True),
        output.chunk(b"e", err),
        output.chunk(b"c\nf\n", continues=True),
        output.chunk(b"e\n", err, continues=True),
    ]
    _complete(database, output, chunks)
    assert _packed(database, output.handle) == [(1, 9)]
    check_tail(database, output.handle, chunks, range(1, 11))


@pytest.mark.parametrize(
    "steps",
    [
        [(b"x\n", 1), (b"x\n", 3), (b"x\n", 3), (b"x\n", 9)],
        [(b"x\n", 1), (b"x\ny\n", 3), (b"x\n", 3), (b"x\n", 9)],
        [(b"x\n", 5), (b"x\n", 3), (b"x\n", 9), (b"x\n", 1)],
        [(b"x", 1), (b"x", 3), (b"x\n", 3), (b"x\n", 4)],
    ],
)
def test_lines_of_packed_rows_are_counted_by_time(
    database: sqlite3.Connection, output: Output, steps: list[tuple[bytes, int]]
) -> None:
    unfinished = dict.fromkeys(Stream, False)
    chunks = []
    for number in range(4 * len(steps)):
        again, step = divmod(number // 2, len(steps))
        data, ts_ms = steps[step]
        stream = Stream(number % 2 + 1)
        chunks.append(output.chunk(data, stream, ts_ms=ts_ms + 10 * again, continues=unfinished[stream]))
        unfinished[stream] = not data.endswith(b"\n")
    _complete(database, output, chunks)
    assert len(_packed(database, output.handle)) == 1
    check_histogram(database, output.handle, chunks)


def test_few_rows_are_not_packed_while_more_may_come(database: sqlite3.Connection, output: Output) -> None:
    commit_each(database, [output.chunk(b"x\n", Stream(n % 2 + 1)) for n in range(31)])
    _compact(database, output.handle, min_rows=4)
    assert _packed(database, output.handle) == []
    commit(database, [output.chunk(b"x\n", Stream.STDERR)])
    _compact(database, output.handle, min_rows=4)
    assert _packed(database, output.handle) == [(1, 32)]

"""Compaction: output reads as before when its rows are merged."""

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plain_sql import register_sqlar_uncompress
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import Order
from outlast.model.scan import ScanQuery
from outlast.storage.base import AddProcess, Change, CompleteOutput, PurgeProcess
from outlast.storage.sqlite import queries, read
from outlast.storage.sqlite.commit import commit, stored_position
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.maintenance.compaction import STEP_ROWS, CompactionPlan, apply_compaction, plan_compaction
from outlast.storage.sqlite.rows import LARGE_BYTES, MAX_MERGED_LINES, TARGET_BYTES
from outlast.storage.sqlite.scan import scan_output
from outlast.testing.storage.model import numbered, whole_lines
from outlast.testing.storage.samples import Output, new_process
from tests.storage.comparisons import check_histogram, check_tail
from tests.storage.stores import commit_each, compress_all

_EVERYTHING_BYTES = 1 << 30
_Chunks = Sequence[Chunk]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(tmp_path_factory.mktemp("merge") / "outlast.db", durable=False)) as db:
        db.execute("PRAGMA synchronous = OFF")
        register_sqlar_uncompress(db)
        yield db


def _rows(db: sqlite3.Connection, handle: int) -> list[tuple[int, ...]]:
    """Return ids, first lines, and numbers of lines and bytes."""
    return db.execute(
        "SELECT id, first_seq, line_count, length(data) FROM output_chunk WHERE handle = ? ORDER BY first_seq",
        (handle,),
    ).fetchall()


def _compact(db: sqlite3.Connection, handle: int, *, min_rows: int = 2) -> list[CompactionPlan]:
    """Merge all rows that can be merged."""
    plans = []
    while plan := plan_compaction(db, handle, min_rows=min_rows, for_pages=True):
        apply_compaction(db, [plan])
        plans.append(plan)
    return plans


# ---- what is read

_Piece = tuple[bytes | None, Stream, int, int, str, bool]
_DATA = [b"\n", b"a\n", b"line\n", b"\xff\\\n", b"\0\n", b"a\nb\n", b"x\n\ny\n", b"no end", b"a\nno end", None]
_pieces = st.tuples(
    st.sampled_from(_DATA),
    st.sampled_from([Stream.STDOUT, Stream.STDOUT, Stream.STDERR]),
    st.integers(min_value=1, max_value=5),  # time
    st.sampled_from([0, 0, 0, 1]),  # whether another run starts
    st.sampled_from(["", "", "commit", "merge"]),  # done before the next
    st.booleans(),  # whether it continues an unfinished line
)


def _read(db: sqlite3.Connection, handle: int, chunks: _Chunks, after: int, max_bytes: int) -> None:
    latest = [max(chunk.ts_ms for chunk in chunks[: n + 1]) for n in range(len(chunks))]
    for stream in (None, *Stream):
        for since, until in [(None, None), *itertools.product(range(1, 6), (3, 5))]:
            found = read.chunks(
                db,
                ChunkQuery(
                    handle=handle, after_seq=after, max_bytes=max_bytes, stream=stream, since_ms=since, until_ms=until
                ),
            )
            expected = [
                chunk.after(after)
                for chunk, time in zip(chunks, latest, strict=True)
                if chunk.last_seq > after
                and stream in (None, chunk.stream)
                and (since is None or since <= time)
                and (until is None or time <= until)
            ]
            sizes = [sum(len(chunk.data) for chunk in expected[: n + 1]) for n in range(len(expected))]
            enough = next((n + 1 for n, size in enumerate(sizes) if size >= max_bytes), len(expected))
            assert found == expected[:enough], (stream, since, until)


def _scan(db: sqlite3.Connection, handle: int, chunks: _Chunks, max_chunks: int) -> None:
    for order in Order:
        for since, until in ((None, None), (2, 3), (4, None)):
            asked = ScanQuery(order=order, handle=handle, since_ms=since, until_ms=until, max_chunks=max_chunks)
            found: list[Chunk] = []
            positions: set[int] = set()
            while True:
                piece = scan_output(db, asked)
                assert len(piece.chunks) <= max_chunks
                assert positions.isdisjoint(position for position, _ in piece.chunks)
                positions.update(position for position, _ in piece.chunks)
                found += [chunk for _, chunk in piece.chunks]
                if piece.position is None:
                    break
                asked = replace(asked, position=piece.position)
            expected = [
                (line.seq, line.stream, line.ts_ms, line.text())
                for line in whole_lines(chunks)
                if line.text() is not None
                and (since is None or line.ts_ms >= since)
                and (until is None or line.ts_ms <= until)
            ]
            lines = [
                (seq, chunk.stream, chunk.ts_ms, text)
                for chunk in (found if order is Order.OLDEST else found[::-1])
                for seq, text in numbered(chunk)
            ]
            assert lines == expected


def _view(db: sqlite3.Connection, process_id: str, chunks: _Chunks) -> None:
    expected = [
        (line.run, line.seq, line.ts_ms, line.stream.word, text.removesuffix(b"\n"))
        for line in whole_lines(chunks)
        if (text := line.text()) is not None
    ]
    shown = [(*row[:4], row[4].replace(b"\0", "\u2400".encode())) for row in expected]
    (figures,) = db.execute("SELECT lines, bytes FROM processes WHERE id = ?", (process_id,)).fetchall()
    assert figures == (len(shown), sum(len(chunk.data) for chunk in chunks))
    for view in ("output_lines", "output_tail"):
        rows = db.execute(
            f"SELECT run, seq, ts, stream, CAST(line AS BLOB) FROM {view} WHERE process_id = ? ORDER BY seq",  # noqa: S608
            (process_id,),
        ).fetchall()
        assert rows == shown


def _commit_pieces(
    database: sqlite3.Connection, process: AddProcess, pieces: list[_Piece]
) -> tuple[Output, list[Chunk]]:
    """Commit pieces as the output of a process, between chunks of another, and return them as chunks."""
    other = new_process()
    handles = commit(database, [process, other])
    handle = handles[process.spec.id]
    output, between = Output(handle), Output(handles[other.spec.id])
    chunks: list[Chunk] = []
    run = 1
    batch: list[Change] = []
    for data, stream, time, later_run, now, continues in pieces:
        run += later_run
        chunks.append(
            output.gap(3, stream, ts_ms=time, run=run)
            if data is None
            else output.chunk(data, stream, ts_ms=time, run=run, continues=continues)
        )
        batch += [chunks[-1], between.chunk(b"x\n")]
        if now:
            commit(database, batch)
            batch = []
        if now == "merge":
            _compact(database, handle)
    commit(database, batch)
    return output, chunks


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    pieces=st.lists(_pieces, min_size=5, max_size=15),
    after=st.integers(min_value=0, max_value=20),
    max_bytes=st.sampled_from([1, 7, _EVERYTHING_BYTES]),
    max_chunks=st.sampled_from([1, 3, 1000]),
    is_complete=st.booleans(),
    is_compressed=st.booleans(),
)
def test_merged_output_reads_as_before(
    database: sqlite3.Connection,
    pieces: list[_Piece],
    after: int,
    max_bytes: int,
    max_chunks: int,
    *,
    is_complete: bool,
    is_compressed: bool,
) -> None:
    process = new_process()
    output, chunks = _commit_pieces(database, process, pieces)
    handle = output.handle
    if is_complete:
        commit(database, [CompleteOutput(handle, 1)])
    _compact(database, handle)
    if len({chunk.stream for chunk in chunks}) == 1 and all(chunk.data.endswith(b"\n") for chunk in chunks):
        begun = [row[1] for row in _rows(database, handle)]
        assert begun == [
            1,
            *(after.first_seq for before, after in itertools.pairwise(chunks) if before.run < after.run),
        ]
    _view(database, process.spec.id, chunks)
    if is_compressed:
        database.execute("DELETE FROM unmerged")
        compress_all(database)
    _read(database, handle, chunks, after, max_bytes)
    check_tail(database, handle, chunks, (None, after + 1))
    check_histogram(database, handle, chunks)
    _scan(database, handle, chunks, max_chunks)
    assert stored_position(database, handle) == output.position
    commit(database, [*chunks[-2:], output.chunk(b"more\n")])
    assert stored_position(database, handle) == output.position


# ---- what is done


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([1], 1),
        ([1000] * 20, 1),
        ([LARGE_BYTES] * 7, 1),
        ([LARGE_BYTES] * 9, 2),
        ([1000, LARGE_BYTES + 1, 1000, 1000], 3),
    ],
)
def test_small_chunks_of_one_commit_are_one_row(database: sqlite3.Connection, sizes: list[int], rows: int) -> None:
    handles = commit(database, [one := new_process(), other := new_process()])
    output, between = Output(handles[one.spec.id]), Output(handles[other.spec.id])
    chunks = [output.chunk(b"x" * (size - 1) + b"\n", ts_ms=n) for n, size in enumerate(sizes)]
    ended: list[Change] = [CompleteOutput(output.handle, 1), CompleteOutput(between.handle, 1)]
    commit(database, [*itertools.chain(*((chunk, between.chunk(b"y\n")) for chunk in chunks)), *ended])
    assert len(_rows(database, output.handle)) == rows
    assert len(_rows(database, between.handle)) == 1
    _view(database, one.spec.id, chunks)


def test_a_purge_deletes_output_of_the_same_commit(database: sqlite3.Connection) -> None:
    output = _trickle(database, 1)
    commit(database, [output.chunk(b"x\n"), output.chunk(b"x\n"), PurgeProcess(output.handle), output.chunk(b"x\n")])
    assert len(_rows(database, output.handle)) == 1  # which the cleanup deletes


def test_a_minute_begins_with_its_first_chunk_in_any_row(database: sqlite3.Connection) -> None:
    output = _trickle(database, 1)
    (last_ms,) = database.execute("SELECT max(ts) FROM minute").fetchone()
    later_ms = last_ms + 2 * queries.MINUTE_MS
    chunks = [output.chunk(b"x\n", ts_ms=ts_ms) for ts_ms in (last_ms, later_ms, later_ms + queries.MINUTE_MS)]
    commit(database, [*chunks, Output(output.handle + 1).chunk(b"of nobody\n")])
    for since_ms in (later_ms - 1, later_ms, later_ms + 1):
        found = scan_output(database, ScanQuery(handle=output.handle, since_ms=since_ms, order=Order.OLDEST)).chunks
        assert [chunk for _, chunk in found] == [chunk for chunk in chunks if chunk.ts_ms >= since_ms]


def _trickle(db: sqlite3.Connection, lines: int) -> Output:
    process = new_process()
    output = Output(commit(db, [process])[process.spec.id])
    commit_each(db, [output.chunk(b"x" * 95 + b"\n", ts_ms=1000 * n) for n in range(lines)])
    return output


@dataclass
class _Compacted:
    """The rows of 10,000 lines before and after their compaction, and its steps."""

    before: list[tuple[int, ...]]
    after: list[tuple[int, ...]]
    plans: list[CompactionPlan]


@pytest.fixture
def compacted(database: sqlite3.Connection) -> _Compacted:
    database.execute("BEGIN")
    output = _trickle(database, 10_000)
    before = _rows(database, output.handle)
    plans = _compact(database, output.handle, min_rows=16)
    after = _rows(database, output.handle)
    database.execute("ROLLBACK")
    return _Compacted(before, after, plans)


def test_steps_are_small(compacted: _Compacted) -> None:
    for plan in compacted.plans:
        assert 2 <= plan.row_count <= STEP_ROWS
        assert plan.size <= TARGET_BYTES


def test_merged_rows_keep_ids(compacted: _Compacted) -> None:
    assert compacted.after[-1][0] == compacted.before[-1][0]
    assert {row[0] for row in compacted.after} < {row[0] for row in compacted.before}


def test_rows_are_merged_until_they_are_full(compacted: _Compacted) -> None:
    assert all(row[3] > 0.9 * TARGET_BYTES for row in compacted.after[:-1])


def test_a_byte_is_written_a_few_times_only(compacted: _Compacted) -> None:
    assert sum(plan.size for plan in compacted.plans) < 5 * 10_000 * 104


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([1000, 1000], 1),
        ([LARGE_BYTES - 50, LARGE_BYTES - 50], 1),
        ([1000, LARGE_BYTES + 1, 1000], 3),
        ([TARGET_BYTES - 5000, 1000], 2),
        ([LARGE_BYTES - 50] * 9, 2),
    ],
)
def test_large_chunks_are_not_merged(database: sqlite3.Connection, sizes: list[int], rows: int) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    commit_each(database, [output.chunk(b"x" * (size - 1) + b"\n") for size in sizes])
    _compact(database, output.handle)
    assert len(_rows(database, output.handle)) == rows


def test_a_merged_row_has_a_bounded_number_of_lines(database: sqlite3.Connection) -> None:
    output = Output(commit(database, [process := new_process()])[process.spec.id])
    chunks = [output.chunk(b"x" * 19 + b"\n" * 1000, ts_ms=n) for n in range(12)]
    commit_each(database, chunks)
    _compact(database, output.handle)
    counts = [row[2] for row in _rows(database, output.handle)]
    assert 1000 < max(counts) <= MAX_MERGED_LINES
    _view(database, process.spec.id, chunks)


def test_few_rows_wait_while_more_may_come(database: sqlite3.Connection) -> None:
    output = _trickle(database, 15)
    assert _compact(database, output.handle, min_rows=16) == []
    commit(database, [output.chunk(b"x\n")])
    assert len(_compact(database, output.handle, min_rows=16)) == 1
    commit(database, [output.chunk(b"x\n"), CompleteOutput(output.handle, 1)])
    assert len(_compact(database, output.handle, min_rows=16)) == 1
    assert len(_rows(database, output.handle)) == 1
    assert plan_compaction(database, output.handle, min_rows=16, for_pages=True) is None


def test_a_process_purged_after_its_plan_is_left_alone(database: sqlite3.Connection) -> None:
    output = _trickle(database, 3)
    plan = plan_compaction(database, output.handle, min_rows=2, for_pages=True)
    assert plan is not None
    commit(database, [PurgeProcess(output.handle)])
    before = _rows(database, output.handle)
    apply_compaction(database, [plan])
    assert _rows(database, output.handle) == before

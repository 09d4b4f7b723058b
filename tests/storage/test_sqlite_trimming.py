"""Trimmed output in the SQLite file: what is deleted, what stays, and what SQL shows, at any moment."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.plain_sql import register_sqlar_uncompress
from outlast.failpoints import VARIABLE
from outlast.model.output import ChunkQuery, Stream, TrimGap
from outlast.model.retention import Rule, TrimQuery
from outlast.storage.base import PurgeProcess, TrimOutput
from outlast.storage.sqlite import SqliteStorage, connection, queries, retention_queries
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import STEP_ROWS, open_writer
from outlast.storage.sqlite.maintenance.compaction import apply_compaction, plan_compaction
from outlast.storage.sqlite.maintenance.compression import apply_compression, compress_rows, plan_compression
from outlast.storage.sqlite.read import chunks, one_process
from outlast.storage.sqlite.trimming import TRIM_STEP_ROWS, delete_trimmed_rows, trim_point
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from tests.storage.stores import EVERYTHING, commit_each, sqlite_storage

KEPT_LINES = 100
_LARGE = b"x" * 40_000 + b"\n"
_ROOT = Path(__file__).parents[2]


def line_of(number: int) -> bytes:
    """Return a line that is too large to be merged."""
    return b"%d " % number + _LARGE


def trim_of(upto: int) -> TrimOutput:
    return TrimOutput(1, upto, EPOCH_MS, Rule.TOTAL_BYTES)


def _stored(db: sqlite3.Connection) -> int:
    """Add a process, and return its handle."""
    process = new_process()
    return commit(db, [process])[process.spec.id]


def _shown(db: sqlite3.Connection, columns: str, view: str) -> list[tuple[object, ...]]:
    return db.execute(f"SELECT {columns} FROM {view}").fetchall()  # noqa: S608


def _held(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return what each process holds, counted."""
    size = retention_queries.ROW_SIZE
    return db.execute(
        f"SELECT p.handle, coalesce(sum({size}), 0) FROM process p "  # noqa: S608
        "LEFT JOIN trimmed t ON t.handle = p.handle "
        "JOIN output_chunk c ON c.handle = p.handle AND c.first_seq > coalesce(t.last_seq, 0) "
        "GROUP BY p.handle ORDER BY p.handle"
    ).fetchall()


def _accounted(db: sqlite3.Connection) -> list[tuple[int, int]]:
    return db.execute("SELECT handle, bytes FROM holding WHERE bytes > 0 ORDER BY handle").fetchall()


def test_views_never_show_trimmed_output(path: Path) -> None:
    with closing(open_writer(path, durable=False)) as db:
        register_sqlar_uncompress(db)
        output = Output(_stored(db))
        printed = [
            output.chunk(b"one\n"),
            output.chunk(b"error\n", Stream.STDERR),
            output.gap(9),
            output.chunk(b"begun "),
            output.chunk(b"errors\n", Stream.STDERR),
            output.chunk(b"and ended\ntwo\n", continues=True),
        ]
        commit_each(db, printed)
        commit(db, [trim_of(4)])
        for is_deleted in (False, True):
            while is_deleted and delete_trimmed_rows(db):
                pass
            for suffix in ("", "_portable"):
                for view in ("output_lines", "output_tail"):
                    lines = [(5, "errors"), (6, "and ended"), (7, "two")]
                    assert sorted(_shown(db, "seq, line", view + suffix)) == lines
            gap = (1, 4, "both", "retention", len(b"one\nerror\nbegun "), 2)
            assert _shown(db, "seq, last_seq, stream, reason, missing_bytes, missing_lines", "output_gaps") == [gap]
            assert _shown(db, "lines, bytes", "processes") == [(3, len(b"errors\nand ended\ntwo\n"))]
            process = one_process(db, queries.PAGE_BY_HANDLE, {"handle": 1})
            assert process is not None
            assert (process.output.lines, process.output.bytes) == (3, len(b"errors\nand ended\ntwo\n"))


def test_the_last_row_of_each_stream_stays_without_its_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STEP_S", 0)
    with closing(open_writer(path, durable=False)) as db:
        output = Output(_stored(db))
        commit(db, [output.chunk(b"error", Stream.STDERR)])
        commit_each(db, [output.chunk(_LARGE) for _ in range(2 * STEP_ROWS + 5)])
        commit(db, [trim_of(output.position.last_seq)])
        steps = 0
        while delete_trimmed_rows(db):
            steps += 1
        assert steps == 3
        rows = _shown(db, "first_seq, stream, length(data)", "output_chunk ORDER BY first_seq")
        assert rows == [(1, 2, 0), (output.position.last_seq, 1, 0)]
        commit_each(db, [output.chunk(b" code\n", Stream.STDERR, continues=True), output.chunk(_LARGE)])
        commit(db, [trim_of(output.position.last_seq - 1)])
        while delete_trimmed_rows(db):
            pass
        rows = _shown(db, "stream, length(data)", "output_chunk ORDER BY first_seq")
        assert rows == [(2, 0), (1, len(_LARGE))]


@pytest.mark.parametrize("compresses", [False, True])
def test_what_a_process_holds_is_what_its_rows_take(path: Path, compresses: bool) -> None:
    with closing(open_writer(path, durable=False)) as db:
        outputs = [Output(_stored(db)) for _ in range(3)]
        for n in range(40):
            for output in outputs[:2]:
                commit(db, [output.chunk(b"line %d\n" % n * 50, Stream(1 + n % 2)), output.gap(1)])
        assert _accounted(db) == _held(db)
        plan = plan_compaction(db, 1, min_rows=2, for_pages=False)
        old = plan_compression(db, EVERYTHING, 2**42)
        if compresses:
            assert old is not None
            apply_compression(db, compress_rows(old.rows, EVERYTHING), old.upto_id)
            assert _accounted(db) == _held(db)
        commit(db, [trim_of(outputs[0].position.last_seq // 2)])
        assert _accounted(db) == _held(db)
        assert plan is not None
        apply_compaction(db, [plan])  # planned before the trim
        assert _accounted(db) == _held(db)
        while plan := plan_compaction(db, 2, min_rows=2, for_pages=False):
            apply_compaction(db, [plan])
        while delete_trimmed_rows(db):
            assert _accounted(db) == _held(db)
        if old is not None:
            apply_compression(db, compress_rows(old.rows, EVERYTHING), old.upto_id)  # planned before the trim
        assert _accounted(db) == _held(db)
        commit(db, [PurgeProcess(2), outputs[0].chunk(b"more\n"), outputs[2].chunk(_LARGE)])
        assert _accounted(db) == _held(db)


def test_a_merge_planned_before_a_trim_is_not_done(path: Path) -> None:
    with closing(open_writer(path, durable=False)) as db:
        output = Output(_stored(db))
        commit_each(db, [output.chunk(b"line %d\n" % n) for n in range(1, 41)])
        plan = plan_compaction(db, 1, min_rows=2, for_pages=False)
        assert plan is not None
        assert len(plan.merged[0].ids) > 20
        commit(db, [trim_of(20)])
        apply_compaction(db, [plan])
        while delete_trimmed_rows(db):
            pass
        gap, *chunks_left = chunks(db, ChunkQuery(handle=1, max_bytes=1 << 20))
        assert (gap.last_seq, b"".join(chunk.data for chunk in chunks_left)) == (
            20,
            b"".join(b"line %d\n" % n for n in range(21, 41)),
        )
        assert _accounted(db) == _held(db)


def test_compression_planned_before_a_trim_leaves_the_rest_of_it_alone(path: Path) -> None:
    with closing(open_writer(path, durable=False)) as db:
        output = Output(_stored(db))
        commit_each(db, [output.chunk(_LARGE) for _ in range(3)])
        plan = plan_compression(db, EVERYTHING, 2**42)
        assert plan is not None
        compressed = compress_rows(plan.rows, EVERYTHING)
        assert len(compressed) == 3
        commit(db, [trim_of(3)])
        while delete_trimmed_rows(db):
            pass
        apply_compression(db, compressed, plan.upto_id)
        assert _shown(db, "first_seq, length(data)", "output_chunk") == [(3, 0)]
        assert _accounted(db) == _held(db) == []


def test_a_trim_covers_a_bounded_number_of_rows(path: Path) -> None:
    with closing(open_writer(path, durable=False)) as db:
        output = Output(_stored(db))
        db.execute("BEGIN")
        commit_each(db, [output.chunk(b"x\n") for _ in range(TRIM_STEP_ROWS + 10)])
        db.execute("COMMIT")
        point = trim_point(db, TrimQuery(handle=1, free_bytes=1 << 40))
        assert point is not None
        assert point.upto_seq == TRIM_STEP_ROWS


async def test_a_trim_that_was_cut_off_is_finished_by_the_next_opening(path: Path) -> None:
    with closing(open_writer(path, durable=True)) as db:
        output = Output(_stored(db))
        commit_each(db, [output.chunk(_LARGE) for _ in range(STEP_ROWS + 5)])
        commit(db, [trim_of(STEP_ROWS + 3)])
    storage = sqlite_storage(path)
    await storage.open()
    await storage._cleanup.wait_idle()
    with closing(sqlite3.connect(path)) as db:
        assert _shown(db, "count(*)", "output_chunk") == [(2,)]
        assert _shown(db, "is_deleted", "trimmed") == [(1,)]
    await storage.close()


async def test_a_commit_waits_for_a_small_piece_of_a_trim_only(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STEP_S", 0)
    output, kept = [Output(await added(storage)) for _ in range(2)]
    await storage.commit([output.chunk(b"x") for _ in range(20 * STEP_ROWS)])  # no line ends: a row each
    await storage.commit([trim_of(output.position.last_seq)])
    for n in range(1, 6):
        await storage.commit([kept.chunk(b"y\n")])
        with closing(sqlite3.connect(storage.path)) as db:
            ((left,),) = db.execute("SELECT count(*) FROM output_chunk WHERE handle = 1").fetchall()
        assert left >= (20 - n) * STEP_ROWS
    await storage._cleanup.wait_idle()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inside-trim", "inside-trim-deletion", "after-trim-deletion"])
async def test_a_kill_during_a_trim_shows_no_half(path: Path, point: str) -> None:
    answered, upto = 0, 0
    for count in (1, 2, 3):
        child = subprocess.run(
            [sys.executable, "-m", "tests.storage.trimming_writer", str(path)],
            env=os.environ | {VARIABLE: f"{point}:{count}"},
            capture_output=True,
            text=True,
            cwd=_ROOT,
            check=False,
            timeout=60,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        if child.stdout:  # else it has died in what the one before had begun
            answered, upto = map(int, child.stdout.splitlines()[-1].split())
        await _check_what_is_left(path, answered, upto)


async def _check_what_is_left(path: Path, answered: int, upto: int) -> None:
    """Compare all that can be read: a gap, if any, then every line."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert _accounted(db) == _held(db)
        shown = [(seq, str(line).split()[0]) for seq, line in _shown(db, "seq, line", "output_lines_portable")]
    storage = sqlite_storage(path)
    await storage.open()
    try:
        found = await storage.chunks(ChunkQuery(handle=1, max_bytes=1 << 30))
        mark = found[0].last_seq if isinstance(found[0], TrimGap) else 0
        assert mark <= upto
        lines = [chunk for chunk in found if not isinstance(chunk, TrimGap)]
        assert [chunk.first_seq for chunk in lines] == list(range(mark + 1, answered + 1))
        assert all(chunk.data == line_of(chunk.first_seq) for chunk in lines)
        assert sorted(shown) == [(chunk.first_seq, str(chunk.first_seq)) for chunk in lines]
        process = await storage.process(1)
        assert process is not None
        assert (process.output.lines, process.output.first_seq) == (answered - mark, mark + 1)
    finally:
        await storage.close()

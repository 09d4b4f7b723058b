"""Cleanup: the log stays small, and purged output is deleted a little at a time."""

import asyncio
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from outlast.model.output import ChunkQuery, Stream
from outlast.model.retention import Rule
from outlast.storage.base import PurgeProcess, TrimOutput
from outlast.storage.sqlite import SqliteStorage, connection, read
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES, STEP_ROWS, WAL_LIMIT_BYTES, open_writer
from outlast.storage.sqlite.maintenance import cleanup as cleanup_module
from outlast.storage.sqlite.maintenance import reclamation
from outlast.storage.sqlite.maintenance.checkpoint import Checkpointer
from outlast.storage.sqlite.maintenance.cleanup import CleanupTask
from outlast.storage.sqlite.maintenance.reserve import Reserve
from outlast.testing.storage.samples import Output, added, new_process
from tests.storage.stores import sqlite_storage

_MIB = 1 << 20


def _wal_bytes(storage: SqliteStorage) -> int:
    return Path(f"{storage.path}-wal").stat().st_size


def _size(path: Path) -> int:
    return path.stat().st_size


async def _check_all_is_deleted(storage: SqliteStorage) -> None:
    """Check that all purged output is deleted, but for the newest row of all: see DESIGN.md."""
    await storage._cleanup.wait_idle()
    assert _count(storage.path, "SELECT count(*) FROM output_chunk") == 1
    assert _count(storage.path, "SELECT sum(length(data)) FROM output_chunk") == 0
    assert _count(storage.path, "SELECT count(*) FROM purged") == 1


def _count(path: Path, sql: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        number: int = db.execute(sql).fetchone()[0]
        return number


@pytest.mark.slow
async def test_the_log_stays_small_under_constant_reads(path: Path) -> None:
    storage = sqlite_storage(path, durable=False)
    await storage.open()
    output = Output(await added(storage))
    done = asyncio.Event()
    reads = 0

    async def read() -> None:
        nonlocal reads
        seen = 0
        while not done.is_set():
            chunks = await storage.chunks(ChunkQuery(handle=output.handle, after_seq=seen, max_bytes=_MIB))
            seen = chunks[-1].last_seq if chunks else 0
            reads += 1

    largest = 0
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(read())
        for _ in range(200):
            await storage.commit([output.chunk(b"x" * _MIB)])
            largest = max(largest, _wal_bytes(storage))
        done.set()
    await storage.close()
    assert reads > 100
    assert WAL_LIMIT_BYTES < largest < 4 * WAL_LIMIT_BYTES  # a slow machine may miss an attempt or two


@pytest.mark.slow
async def test_the_log_shrinks_after_a_foreign_reader_ends(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM process").fetchone()
        for _ in range(3 * WAL_LIMIT_BYTES // _MIB):
            await storage.commit([output.chunk(b"x" * _MIB)])
        await storage._cleanup.wait_idle()
        assert _wal_bytes(storage) > 3 * WAL_LIMIT_BYTES
    for _ in range(WAL_LIMIT_BYTES // _MIB + 3):
        await storage.commit([output.chunk(b"x" * _MIB)])
        await storage._cleanup.wait_idle()
    assert _wal_bytes(storage) <= WAL_LIMIT_BYTES


def test_a_foreign_reader_delays_the_next_checkpoint_by_a_whole_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(open_writer(path, durable=False)) as db,
        closing(sqlite3.connect(path, isolation_level=None)) as foreign,
    ):
        monkeypatch.setattr(Reserve, "free_bytes", lambda _self: 1 << 40)
        checkpointer = Checkpointer(path, Reserve(path))

        def write_a_log() -> None:
            for _ in range(WAL_LIMIT_BYTES // _MIB + 1):
                commit(db, [output.chunk(b"x" * _MIB)])

        process = new_process()
        output = Output(commit(db, [process])[process.spec.id])
        write_a_log()
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM process").fetchone()
        assert checkpointer.is_due()
        checkpointer.checkpoint(db)
        assert not checkpointer.is_due()  # the attempt has failed, and not every commit waits for another
        write_a_log()
        assert checkpointer.is_due()
        foreign.execute("COMMIT")
        checkpointer.checkpoint(db)
        commit(db, [output.chunk(b"x")])
        assert Path(f"{path}-wal").stat().st_size <= WAL_LIMIT_BYTES
        assert not checkpointer.is_due()


async def test_a_purge_gives_the_room_back(storage: SqliteStorage) -> None:
    purged, kept = [Output(await added(storage)) for _ in range(2)]
    for _ in range(2 * STEP_ROWS):
        await storage.commit([purged.chunk(b"x" * 50_000), kept.chunk(b"y")])
    await storage.commit([PurgeProcess(purged.handle)])
    await storage._cleanup.wait_idle()
    assert _count(storage.path, "SELECT count(*) FROM output_chunk") == 2 * STEP_ROWS
    assert _count(storage.path, "SELECT count(*) FROM purged") == 0
    assert _count(storage.path, "PRAGMA freelist_count") == 0
    assert _size(storage.path) <= 48 * PAGE_SIZE_BYTES


async def test_a_commit_waits_for_a_small_piece_of_a_purge_only(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STEP_S", 0)
    purged, kept = [Output(await added(storage)) for _ in range(2)]
    await storage.commit([purged.chunk(b"x") for _ in range(20 * STEP_ROWS)])  # no line ends: a row each
    await storage.commit([PurgeProcess(purged.handle)])
    for n in range(1, 6):
        await storage.commit([kept.chunk(b"y\n")])
        left = _count(storage.path, f"SELECT count(*) FROM output_chunk WHERE handle = {purged.handle}")  # noqa: S608
        assert left >= (20 - n) * STEP_ROWS
    await storage._cleanup.wait_idle()
    assert _count(storage.path, f"SELECT count(*) FROM output_chunk WHERE handle = {purged.handle}") == 0  # noqa: S608


async def test_a_purge_that_was_cut_off_is_finished_by_the_next_opening(path: Path) -> None:
    with closing(open_writer(path, durable=True)) as db:
        processes = [new_process() for _ in range(2)]
        handles = list(commit(db, processes).values())
        commit(db, [Output(handle).chunk(b"line\n") for handle in handles])
        commit(db, [PurgeProcess(handles[0])])
        for stream in (None, Stream.STDOUT):
            found = read.chunks(db, ChunkQuery(handle=handles[0], max_bytes=1, stream=stream))
            assert found == []
            assert read.tail(db, handles[0], 5, stream) == 0
    assert _count(path, "SELECT count(*) FROM output_chunk") == 2
    for view in ("processes", "runs", "output_lines_portable", "output_tail_portable"):
        assert _count(path, f"SELECT count(*) FROM {view}") == 1  # noqa: S608
    storage = sqlite_storage(path)
    await storage.open()
    await storage._cleanup.wait_idle()
    assert _count(path, "SELECT count(*) FROM output_chunk") == 1
    await storage.close()


async def test_a_storage_may_be_closed_during_a_purge(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"x") for _ in range(50 * STEP_ROWS)])
    await storage.commit([PurgeProcess(output.handle)])
    await storage.close()
    assert _count(path, "SELECT count(*) FROM output_chunk") > 0
    await storage.open()
    await _check_all_is_deleted(storage)
    await storage.close()


@pytest.mark.parametrize("data", [b"x" * 100_000, None])
async def test_the_newest_chunk_keeps_its_id_until_there_is_a_newer_one(
    storage: SqliteStorage, data: bytes | None
) -> None:
    """Also if it is a gap, which has no data from the first."""
    output, kept = [Output(await added(storage)) for _ in range(2)]
    chunks = [output.chunk(b"x\n") for _ in range(STEP_ROWS)]
    await storage.commit([*chunks, output.gap(9) if data is None else output.chunk(data)])
    highest = _count(storage.path, "SELECT max(id) FROM output_chunk")
    await storage.commit([PurgeProcess(output.handle)])
    await _check_all_is_deleted(storage)
    assert _count(storage.path, "SELECT max(id) FROM output_chunk") == highest
    for view in ("output_gaps", "output_lines_portable", "output_tail_portable"):
        assert _count(storage.path, f"SELECT count(*) FROM {view}") == 0  # noqa: S608
    await storage.close()
    await storage.open()
    await _check_all_is_deleted(storage)
    await storage.commit([kept.chunk(b"y\n")])
    assert _count(storage.path, "SELECT max(id) FROM output_chunk") == highest + 1
    await storage.commit([PurgeProcess(kept.handle)])
    await _check_all_is_deleted(storage)
    assert _count(storage.path, "SELECT handle FROM purged") == kept.handle


async def test_cleanup_that_fails_is_retried(storage: SqliteStorage, caplog: pytest.LogCaptureFixture) -> None:
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"x\n")])
    await storage._cleanup.wait_idle()
    assert storage._writer is not None
    await storage._writer.run(lambda db: db.execute("PRAGMA busy_timeout = 1").fetchall())
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as other:
        await storage.commit([PurgeProcess(output.handle)])
        other.execute("BEGIN IMMEDIATE")
        await storage._cleanup.wait_idle()
    assert "is retried later" in caplog.text
    await storage.commit([PurgeProcess(output.handle)])
    await _check_all_is_deleted(storage)


def test_free_pages_that_cannot_go_back_are_left(path: Path) -> None:
    with closing(open_writer(path, durable=True)) as db:
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (zeroblob(1000000))")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
        db.execute("DROP TABLE filler")
    with closing(open_writer(path, durable=True)) as db:
        assert db.execute("PRAGMA freelist_count").fetchone()[0] > 0
        assert not CleanupTask(path, Reserve(path)).run_step(db)


@pytest.mark.parametrize(("step_s", "pages"), [(0, [64, 1, 1, 1, 1]), (60, [64, 128, 256, 256, 256])])
def test_a_step_gives_back_as_many_pages_as_take_a_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float, pages: list[int]
) -> None:
    """At most as many as the log may have on a full disk, of which it needs one page for each in the worst case."""
    monkeypatch.setattr(reclamation, "FREE_BYTES_KEPT", 0)
    monkeypatch.setattr(reclamation, "STEP_S", step_s)
    reserve = Reserve(path)
    with closing(open_writer(path, durable=False)) as db:
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (zeroblob(?))", (5 * reserve.log_bytes,))
        db.execute("DROP TABLE filler")
        cleanup, left = CleanupTask(path, reserve), [_free_pages(db)]
        while len(left) <= len(pages):
            assert cleanup.run_step(db)
            left.append(_free_pages(db))
        assert [before - after for before, after in pairwise(left)] == pages


def _free_pages(db: sqlite3.Connection) -> int:
    count: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return count


def test_the_file_shrinks_while_more_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system takes its time for a large piece, and commits would wait for it."""
    monkeypatch.setattr(reclamation, "FREE_BYTES_KEPT", 0)
    monkeypatch.setattr(cleanup_module, "_SHRINK_BYTES", 2 * _MIB)
    reserve = Reserve(path)
    with closing(open_writer(path, durable=False)) as db:
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (zeroblob(?))", (20 * _MIB,))
        db.execute("DROP TABLE filler")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cleanup, sizes = CleanupTask(path, reserve), [_size(path)]
        while cleanup.run_step(db):
            sizes.append(_size(path))
        assert len(set(sizes)) >= 4


def test_some_free_pages_stay_for_later_output(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(path)
    kept = 2 * reserve.log_bytes // PAGE_SIZE_BYTES + 10
    monkeypatch.setattr(reclamation, "FREE_BYTES_KEPT", kept * PAGE_SIZE_BYTES)
    with closing(open_writer(path, durable=False)) as db:
        db.execute("CREATE TABLE filler (x)")
        db.execute("INSERT INTO filler VALUES (zeroblob(?))", (4 * reserve.log_bytes,))
        db.execute("DROP TABLE filler")
        cleanup = CleanupTask(path, reserve)
        while cleanup.run_step(db):
            pass
        assert db.execute("PRAGMA freelist_count").fetchone()[0] == kept


async def test_a_trim_leaves_free_pages_and_a_purge_none(storage: SqliteStorage) -> None:
    trimmed, purged = [Output(await added(storage)) for _ in range(2)]
    for _ in range(20):
        await storage.commit([trimmed.chunk(b"x" * 50_000), purged.chunk(b"y" * 50_000)])
    await storage.commit([TrimOutput(trimmed.handle, 20, 1, Rule.TOTAL_BYTES)])
    await storage._cleanup.wait_idle()
    assert _count(storage.path, "PRAGMA freelist_count") > 40
    await storage.commit([PurgeProcess(purged.handle, Rule.ENDED)])
    await storage._cleanup.wait_idle()
    assert _count(storage.path, "PRAGMA freelist_count") > 80
    await storage.commit([PurgeProcess(trimmed.handle)])
    await storage._cleanup.wait_idle()
    assert _count(storage.path, "PRAGMA freelist_count") == 0


def test_a_step_without_work_reports_it(path: Path) -> None:
    with closing(open_writer(path, durable=True)) as db:
        assert not CleanupTask(path, Reserve(path)).run_step(db)

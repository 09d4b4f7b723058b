"""Sealing: what is old takes less room, says what it is to plain SQL, and reads as before everywhere else."""

import asyncio
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlast.model.errors import StorageError
from outlast.model.output import Stream
from outlast.model.sql import SqlQuery
from outlast.storage.base import CompleteOutput
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import SqliteStorage, codec, read
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.maintenance import compaction, compression
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from tests.storage.stores import EVERYTHING, EagerStorage, commit_each, seal_all
from tests.support.waiting import eventually

_VIEWS = ("output_lines", "output_tail")
_LOG = b"".join(b"2024-03-09 16:00:%02d GET /a/path/%d 200\n" % (n % 60, n) for n in range(100))


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(path, durable=False)) as db:
        yield db


def _output(db: sqlite3.Connection) -> Output:
    process = new_process()
    output = Output(commit(db, [process])[process.spec.id])
    _forget_unmerged(db)
    return output


def _sealed(db: sqlite3.Connection) -> list[int]:
    return [row_id for (row_id,) in db.execute("SELECT id FROM output_chunk WHERE codec = 'zstd' ORDER BY id")]


async def _ask(storage: SqliteStorage, sql: str) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(await storage.sql(SqlQuery(query=sql)))["rows"]
    return rows


def _forget_unmerged(db: sqlite3.Connection) -> None:
    """Say that nothing is to be merged: then rows are sealed as they are."""
    db.execute("DELETE FROM unmerged")


# ---- who sees what


async def test_plain_sql_says_what_is_sealed_and_our_own_reads_it(path: Path) -> None:
    storage = EagerStorage(path)
    await storage.open()
    try:
        output = Output(await added(storage))
        chunks = [
            output.chunk(b"first\n", ts_ms=EPOCH_MS + 1000),
            output.chunk(b'\\second "quoted"\nthird\xff', ts_ms=EPOCH_MS + 500),
            output.gap(3),
            output.chunk(_LOG, Stream.STDERR, ts_ms=EPOCH_MS + 2000),
        ]
        await storage.commit([*chunks, CompleteOutput(output.handle, 1)])
        before = {view: await _ask(storage, f"SELECT * FROM {view} ORDER BY seq") for view in _VIEWS}  # noqa: S608
        process = await storage.process(output.handle)
        with closing(sqlite3.connect(path)) as db:
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            for view, rows in before.items():
                assert [list(row) for row in db.execute(f"SELECT * FROM {view} ORDER BY seq")] == rows  # noqa: S608
            counts = db.execute("SELECT lines, bytes FROM processes").fetchall()
            storage._background._policy = replace(storage._background._policy, sealing=EVERYTHING)
            await storage.commit([])
            for view in _VIEWS:
                rows = db.execute(f"SELECT seq, ts, stream, line FROM {view} ORDER BY seq").fetchall()  # noqa: S608
                assert rows == [
                    (1, EPOCH_MS + 1000, "stdout", "[compressed: 3 lines; read them with: outlast sql]"),
                    (5, EPOCH_MS + 2000, "stderr", "[compressed: 100 lines; read them with: outlast sql]"),
                ]
            sealed = db.execute(
                "SELECT seq, last_seq, stream, lines, bytes FROM output_compressed ORDER BY seq"
            ).fetchall()
            assert sealed == [(1, 3, "stdout", 3, 29), (5, 104, "stderr", 100, len(_LOG))]
            (less,) = db.execute("SELECT compressed_bytes FROM output_compressed WHERE seq = 5").fetchone()
            assert less < len(_LOG) / 4
            assert db.execute("SELECT lines, bytes FROM processes").fetchall() == counts
            assert db.execute("SELECT seq FROM output_gaps").fetchall() == [(4,)]
        after = {view: await _ask(storage, f"SELECT * FROM {view} ORDER BY seq") for view in _VIEWS}  # noqa: S608
        assert after == before
        assert await storage.process(output.handle) == process
        assert await storage.chunks(output.handle, after_seq=0, max_bytes=1 << 30) == chunks
        answer = await _ask(storage, "SELECT unseal(data, codec) FROM output_chunk WHERE codec = 'zstd' AND stream = 1")
        assert len(answer) == 1
    finally:
        await storage.close()


def test_what_cannot_be_unsealed_is_an_error(database: sqlite3.Connection) -> None:
    output = _output(database)
    commit(database, [output.chunk(_LOG)])
    seal_all(database)
    for damage, said in (("data = x'0011'", "damaged"), ("codec = 'lz9'", "upgrade")):
        database.execute(f"UPDATE output_chunk SET {damage}")  # noqa: S608
        with pytest.raises(StorageError, match=said):
            read.chunks(database, output.handle, after_seq=0, max_bytes=1, stream=None, since_ms=None, until_ms=None)


# ---- what is sealed


def test_what_is_old_is_sealed_and_looked_at_once(database: sqlite3.Connection) -> None:
    output = _output(database)
    commit_each(database, [output.chunk(_LOG, ts_ms=ts_ms) for ts_ms in (1000, 2000, 90_000, 3000, 3001)])
    rules = compression.Rules(after_ms=1000)
    for now_ms, sealed in ((1999, []), (2000, [1]), (3999, [1, 2, 3]), (4000, [1, 2, 3, 4]), (5000, [1, 2, 3, 4, 5])):
        seal_all(database, rules, now_ms)  # the third has a time that is still to come: its clock was wrong
        assert _sealed(database) == sealed
        assert compression.look(database, rules, now_ms) is None
    database.execute("UPDATE output_chunk SET codec = NULL")
    assert compression.look(database, rules, 5000) is None


def test_a_merged_row_is_as_old_as_its_last_chunk(database: sqlite3.Connection) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    commit_each(database, [output.chunk(_LOG, ts_ms=1000), output.chunk(_LOG, ts_ms=5000)])
    commit(database, [CompleteOutput(output.handle, 1)])
    step = compaction.look(database, output.handle, least_rows=2, pack=False)
    assert step is not None
    compaction.apply(database, [step])
    rules = compression.Rules(after_ms=1000)
    assert seal_all(database, rules, 5999) == []
    seal_all(database, rules, 6000)
    assert _sealed(database) == [2]


def test_what_gains_little_stays_as_it_is(database: sqlite3.Connection) -> None:
    output = _output(database)
    data = [_LOG[:500], secrets.token_bytes(5000), _LOG, b""]
    commit_each(database, [output.chunk(text) if text else output.gap(7) for text in data])
    seal_all(database, compression.Rules(after_ms=0))
    assert _sealed(database) == [3]


def test_steps_are_small(database: sqlite3.Connection) -> None:
    output = _output(database)
    database.execute("BEGIN")
    commit_each(database, [output.chunk(b"x\n") for _ in range(2 * compression.STEP_ROWS)])
    commit_each(database, [output.chunk(_LOG * 100) for _ in range(10)])
    steps = seal_all(database, compression.Rules(after_ms=0))
    database.execute("COMMIT")
    assert max(sum(len(row.data) for row in step.rows) for step in steps) <= compression.STEP_BYTES + len(_LOG * 100)
    assert len(steps) >= 5
    assert len(_sealed(database)) == 10


async def test_what_is_merged_when_it_is_old_is_sealed_at_once(path: Path) -> None:
    storage = EagerStorage(path)
    rules = compression.Rules(after_ms=1000)
    storage._background._policy = replace(storage._background._policy, due_rows=1000, sealing=rules)
    await storage.open()
    try:
        output = Output(await added(storage))
        few = _LOG[: _LOG.index(b"\n", 900) + 1]
        for _ in range(5):
            await storage.commit([output.chunk(few)])
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT id FROM compressed_upto").fetchone() == (5,)
            assert _sealed(db) == []
            await storage.commit([CompleteOutput(output.handle, 1)])
            assert _sealed(db) == [5]
    finally:
        await storage.close()


@pytest.mark.parametrize("streams", [(1, 1, 1, 1), (1, 2, 1, 2)])
async def test_what_may_still_be_merged_is_sealed_when_it_is_or_stays(path: Path, streams: tuple[int, ...]) -> None:
    storage = EagerStorage(path)
    rules = compression.Rules(after_ms=1000)
    policy = replace(storage._background._policy, due_rows=1000, least_rows=1000, sealing=rules)
    storage._background._policy = policy
    await storage.open()
    try:
        output = Output(await added(storage))
        chunks = [output.chunk(_LOG, Stream(stream)) for stream in streams]
        for chunk in chunks:
            await storage.commit([chunk])
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT id FROM compressed_upto").fetchone() == (4,)
            assert _sealed(db) == []
            await storage.commit([CompleteOutput(output.handle, 1)])
            assert _sealed(db) == ([4] if streams[1] == 1 else [1, 2, 3, 4])
            assert db.execute("SELECT count(*) FROM output_chunk WHERE codec IS NULL").fetchone() == (0,)
        assert await storage.chunks(output.handle, after_seq=0, max_bytes=1 << 30) == chunks
    finally:
        await storage.close()


# ---- when, and where


async def test_the_setting_reaches_the_storage(path: Path) -> None:
    async def opened(compress_after_s: int) -> bool:
        storage = storage_from_url(f"sqlite:///{path}", durable=False, compress_after_s=compress_after_s)
        await storage.open()
        try:
            assert isinstance(storage, SqliteStorage)
            await storage._background.settled()
            with closing(sqlite3.connect(path)) as db:
                return bool(_sealed(db))
        finally:
            await storage.close()

    assert not await opened(0)
    with closing(open_writer(path, durable=False)) as db:
        output = _output(db)
        commit(db, [output.chunk(_LOG), CompleteOutput(output.handle, 1)])  # of 2024
        _forget_unmerged(db)
    assert not await opened(0)
    assert not await opened(2**31)
    assert await opened(3600)


async def test_compression_holds_up_neither_the_loop_nor_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    may_go_on = threading.Event()

    def slow(data: bytes) -> bytes:
        threads.add(threading.current_thread())
        may_go_on.wait(20)
        return data[:1]

    monkeypatch.setattr(codec, "seal", slow)
    storage = EagerStorage(path, seals=True)
    await storage.open()
    try:
        output = Output(await added(storage))
        first = asyncio.create_task(storage.commit([output.chunk(_LOG * 100)]))
        await eventually(lambda: threads)
        await SqliteStorage.commit(storage, [output.chunk(b"meanwhile\n", Stream.STDERR)])
        assert not first.done()
        may_go_on.set()
        await first
    finally:
        may_go_on.set()
        await storage.close()

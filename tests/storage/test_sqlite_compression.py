"""Compression: old rows take less space, plain SQL shows that they are compressed, and all else reads as before."""

import asyncio
import json
import re
import secrets
import sqlite3
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.plain_sql import register_sqlar_uncompress
from outlast.model import clock
from outlast.model.errors import StorageError
from outlast.model.output import Chunk, ChunkQuery, Stream
from outlast.model.process import Process
from outlast.model.sql import SqlQuery
from outlast.storage.base import CompleteOutput
from outlast.storage.registry import storage_from_url
from outlast.storage.sqlite import SqliteStorage, codec, read
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.maintenance.compaction import apply_compaction, plan_compaction
from outlast.storage.sqlite.maintenance.compression import (
    STEP_BYTES,
    STEP_ROWS,
    CompressionRules,
    plan_compression,
)
from outlast.storage.sqlite.rows import LARGE_BYTES
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from tests.storage.stores import EVERYTHING, EagerStorage, commit_each, compress_all
from tests.support.waiting import eventually

_DOCUMENT = Path(__file__).parents[2] / "docs" / "storage.md"
_LARGE_PART = b"m" * (LARGE_BYTES + 1)  # too large to be packed
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


def _compressed_ids(db: sqlite3.Connection) -> list[int]:
    return [row_id for (row_id,) in db.execute("SELECT id FROM output_chunk WHERE codec = 'zlib' ORDER BY id")]


async def _ask(storage: SqliteStorage, sql: str) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(await storage.sql(SqlQuery(query=sql)))["rows"]
    return rows


def _forget_unmerged(db: sqlite3.Connection) -> None:
    """Mark all rows as merged, so that they are compressed as they are."""
    db.execute("DELETE FROM unmerged")


# ---- reading


@dataclass(frozen=True)
class _Compressed:
    """A store whose only process has two compressed rows, and the output that went into them."""

    storage: SqliteStorage
    handle: int
    chunks: list[Chunk]
    process: Process | None
    views: dict[str, list[list[Any]]]


def _chunks(output: Output) -> list[Chunk]:
    """Return 103 lines and a gap: a row of two chunks, a clock set back, an unfinished line, a log."""
    return [
        output.chunk(b"first\n", ts_ms=EPOCH_MS + 1000),
        output.chunk(b'\\second "quoted"\nthird\xff', ts_ms=EPOCH_MS + 500),
        output.gap(3),
        output.chunk(_LOG, Stream.STDERR, ts_ms=EPOCH_MS + 2000),
    ]


@pytest.fixture
async def compressed(path: Path) -> AsyncIterator[_Compressed]:
    storage = EagerStorage(path)
    await storage.open()
    try:
        output = Output(await added(storage))
        chunks = _chunks(output)
        await storage.commit([*chunks, CompleteOutput(output.handle, 1)])
        views = {view: await _ask(storage, f"SELECT * FROM {view} ORDER BY seq") for view in _VIEWS}  # noqa: S608
        process = await storage.process(output.handle)
        storage._maintenance._policy = replace(storage._maintenance._policy, compression=EVERYTHING)
        await storage.commit([])
        yield _Compressed(storage, output.handle, chunks, process, views)
    finally:
        await storage.close()


def _plain_sql(path: Path, sql: str, *, has_zlib: bool = False) -> list[tuple[Any, ...]]:
    """Ask Python's SQLite, with the function that the `sqlite3` command has, or without it."""
    with closing(sqlite3.connect(path)) as db:
        if has_zlib:
            register_sqlar_uncompress(db)
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return db.execute(sql).fetchall()


@pytest.mark.parametrize("view", _VIEWS)
@pytest.mark.parametrize("suffix", ["", "_portable"])
async def test_plain_sql_shows_the_same_lines_before_compression(path: Path, view: str, suffix: str) -> None:
    storage = EagerStorage(path)
    await storage.open()
    try:
        output = Output(await added(storage))
        await storage.commit([*_chunks(output), CompleteOutput(output.handle, 1)])
        sql = f"SELECT * FROM {view}{suffix} ORDER BY seq"  # noqa: S608
        shown = await _ask(storage, sql)
        assert len(shown) == 103
        assert [list(row) for row in _plain_sql(path, sql, has_zlib=not suffix)] == shown
    finally:
        await storage.close()


@pytest.mark.parametrize("view", _VIEWS)
async def test_a_sqlite_with_zlib_shows_the_lines_of_compressed_rows(
    compressed: _Compressed, path: Path, view: str
) -> None:
    sql = f"SELECT * FROM {view} ORDER BY seq"  # noqa: S608
    assert [list(row) for row in _plain_sql(path, sql, has_zlib=True)] == compressed.views[view]


@pytest.mark.usefixtures("compressed")
@pytest.mark.parametrize("view", _VIEWS)
async def test_any_sqlite_shows_a_sentence_for_a_compressed_row(path: Path, view: str) -> None:
    assert _plain_sql(path, f"SELECT seq, ts, stream, line FROM {view}_portable ORDER BY seq") == [  # noqa: S608
        (1, EPOCH_MS + 1000, "stdout", "[compressed: 3 lines; read them with: sqlite3, or outlast sql]"),
        (5, EPOCH_MS + 2000, "stderr", "[compressed: 100 lines; read them with: sqlite3, or outlast sql]"),
    ]


async def test_the_documented_line_of_python_registers_the_function(compressed: _Compressed, path: Path) -> None:
    (line,) = re.findall(r"`(db\.create_function\([^`]*)`", _DOCUMENT.read_text(encoding="utf-8"))
    with closing(sqlite3.connect(path)) as db:
        eval(line, {"db": db, "zlib": zlib})  # noqa: S307 - the line is ours
        (count,) = db.execute("SELECT count(line) FROM output_lines").fetchone()
    assert count == len(compressed.views["output_lines"])


@pytest.mark.usefixtures("compressed")
async def test_a_sqlite_without_zlib_names_the_function_that_it_lacks(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such function: sqlar_uncompress"):
        _plain_sql(path, "SELECT * FROM output_lines")


@pytest.mark.usefixtures("compressed")
async def test_plain_sql_lists_compressed_rows(path: Path) -> None:
    listed = _plain_sql(path, "SELECT seq, last_seq, stream, lines, bytes FROM output_compressed ORDER BY seq")
    assert listed == [(1, 3, "stdout", 3, 29), (5, 104, "stderr", 100, len(_LOG))]
    ((less,),) = _plain_sql(path, "SELECT compressed_bytes FROM output_compressed WHERE seq = 5")
    assert less < len(_LOG) / 4


@pytest.mark.usefixtures("compressed")
async def test_plain_sql_counts_compressed_lines(path: Path) -> None:
    assert _plain_sql(path, "SELECT lines, bytes FROM processes") == [(103, 29 + len(_LOG))]


@pytest.mark.usefixtures("compressed")
async def test_plain_sql_lists_gaps_between_compressed_rows(path: Path) -> None:
    assert _plain_sql(path, "SELECT seq FROM output_gaps") == [(4,)]


@pytest.mark.parametrize("view", _VIEWS)
async def test_outlast_sql_shows_the_lines_of_compressed_rows(compressed: _Compressed, view: str) -> None:
    sql = f"SELECT * FROM {view} ORDER BY seq"  # noqa: S608
    assert await _ask(compressed.storage, sql) == compressed.views[view]


@pytest.fixture
async def compressing(path: Path) -> AsyncIterator[EagerStorage]:
    """Return a storage that compresses everything at once."""
    storage = EagerStorage(path, compresses=True)
    await storage.open()
    yield storage
    await storage.close()


@pytest.mark.parametrize("view", _VIEWS)
async def test_a_line_in_parts_may_lie_in_compressed_rows(path: Path, compressing: EagerStorage, view: str) -> None:
    output = Output(await added(compressing))
    parts = [
        output.chunk(b"one\nna"),
        output.chunk(_LARGE_PART, continues=True),
        output.chunk(b" Bob\ntwo\n", continues=True),
    ]
    await compressing.commit([*parts, CompleteOutput(output.handle, 1)])
    query = ChunkQuery(handle=output.handle, max_bytes=1 << 30, whole_lines=True)
    lines = [(1, "one"), (4, f"na{_LARGE_PART.decode()} Bob"), (5, "two")]
    assert [line for chunk in await compressing.chunks(query) for line in chunk.lines()] == [
        f"{line}\n".encode() for _, line in lines
    ]
    sql = f"SELECT seq, line FROM {view} ORDER BY seq"  # noqa: S608
    assert await _ask(compressing, sql) == [[seq, line] for seq, line in lines]
    assert _plain_sql(path, "SELECT count(*) FROM output_chunk WHERE codec = 'zlib'") == [(3,)]
    assert _plain_sql(path, "SELECT seq, lines FROM output_compressed ORDER BY seq") == [
        (1, 2),
        (3, 0),
        (4, 1),
    ]
    assert _plain_sql(path, sql, has_zlib=True) == lines
    beginning = "[compressed: the beginning of a line] "
    assert _plain_sql(path, sql.replace(view, f"{view}_portable")) == [
        (1, "[compressed: 2 lines; read them with: sqlite3, or outlast sql]"),
        (4, 2 * beginning + "[compressed: 2 lines; read them with: sqlite3, or outlast sql]"),
    ]


@pytest.mark.parametrize("view", _VIEWS)
async def test_packed_rows_may_be_compressed(path: Path, compressing: EagerStorage, view: str) -> None:
    output = Output(await added(compressing))
    chunks = [
        output.chunk(b"na", ts_ms=1),
        output.chunk(b"one\n", Stream.STDERR, ts_ms=2),
        output.chunk(b"me\n" + _LOG, continues=True, ts_ms=3),
        output.chunk(b"two\n", Stream.STDERR, ts_ms=4),
    ]
    for chunk in chunks:
        await compressing.commit([chunk])
    await compressing.commit([CompleteOutput(output.handle, 1)])
    assert await compressing.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 30)) == chunks
    assert _plain_sql(path, "SELECT id, stream, codec FROM output_chunk") == [(4, 0, "zlib")]
    assert _plain_sql(path, "SELECT stream, lines FROM output_compressed") == [("both", _LOG.count(b"\n") + 3)]
    log = _LOG.decode().splitlines()
    lines = [(2, 2, "stderr", "one"), (3, 3, "stdout", "name")]
    lines += [(4 + n, 3, "stdout", line) for n, line in enumerate(log)]
    lines += [(4 + len(log), 4, "stderr", "two")]
    sql = f"SELECT seq, ts, stream, line FROM {view} ORDER BY seq"  # noqa: S608
    assert await _ask(compressing, sql) == [list(line) for line in lines]
    assert _plain_sql(path, sql, has_zlib=True) == lines
    instead = f"[compressed: {len(log) + 4} lines; read them with: sqlite3, or outlast sql]"
    assert _plain_sql(path, sql.replace(view, f"{view}_portable")) == [(3, 3, "stdout", instead)]


async def test_outlast_sql_can_decompress(compressed: _Compressed) -> None:
    sql = "SELECT decompress(data, codec) = sqlar_uncompress(data, raw_bytes) FROM output_chunk WHERE codec = 'zlib'"
    assert await _ask(compressed.storage, sql) == [[1], [1]]


async def test_the_storage_reads_compressed_output_as_before(compressed: _Compressed) -> None:
    storage, handle = compressed.storage, compressed.handle
    assert await storage.process(handle) == compressed.process
    assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=1 << 30)) == compressed.chunks


def test_a_row_that_cannot_be_decompressed_is_an_error(database: sqlite3.Connection) -> None:
    output = _output(database)
    commit(database, [output.chunk(_LOG)])
    compress_all(database)
    for damage, said in (("data = x'0011'", "damaged"), ("codec = 'lz9'", "upgrade")):
        database.execute(f"UPDATE output_chunk SET {damage}")  # noqa: S608
        with pytest.raises(StorageError, match=said):
            read.chunks(database, ChunkQuery(handle=output.handle, max_bytes=1))


# ---- the rows that are compressed


def test_old_rows_are_compressed_once(database: sqlite3.Connection) -> None:
    output = _output(database)
    commit_each(database, [output.chunk(_LOG, ts_ms=ts_ms) for ts_ms in (1000, 2000, 90_000, 3000, 3001)])
    rules = CompressionRules(after_ms=1000)
    for now_ms, compressed in (
        (1999, []),
        (2000, [1]),
        (3999, [1, 2, 3]),
        (4000, [1, 2, 3, 4]),
        (5000, [1, 2, 3, 4, 5]),
    ):
        compress_all(database, rules, now_ms)  # the third has a time in the future: its clock was wrong
        assert _compressed_ids(database) == compressed
        assert plan_compression(database, rules, now_ms) is None
    database.execute("UPDATE output_chunk SET codec = NULL")
    assert plan_compression(database, rules, 5000) is None


def test_a_merged_row_is_as_old_as_its_last_chunk(database: sqlite3.Connection) -> None:
    process = new_process()
    output = Output(commit(database, [process])[process.spec.id])
    commit_each(database, [output.chunk(_LOG, ts_ms=1000), output.chunk(_LOG, ts_ms=5000)])
    commit(database, [CompleteOutput(output.handle, 1)])
    plan = plan_compaction(database, output.handle, min_rows=2, for_pages=False)
    assert plan is not None
    apply_compaction(database, [plan])
    rules = CompressionRules(after_ms=1000)
    assert compress_all(database, rules, 5999) == []
    compress_all(database, rules, 6000)
    assert _compressed_ids(database) == [2]


def test_a_row_that_gains_little_is_not_compressed(database: sqlite3.Connection) -> None:
    output = _output(database)
    data = [_LOG[:500], secrets.token_bytes(5000), _LOG, b""]
    commit_each(database, [output.chunk(text) if text else output.gap(7) for text in data])
    compress_all(database, CompressionRules(after_ms=0))
    assert _compressed_ids(database) == [3]


def test_steps_are_small(database: sqlite3.Connection) -> None:
    output = _output(database)
    database.execute("BEGIN")
    commit_each(database, [output.chunk(b"x\n") for _ in range(2 * STEP_ROWS)])
    commit_each(database, [output.chunk(_LOG * 100) for _ in range(10)])
    plans = compress_all(database, CompressionRules(after_ms=0))
    database.execute("COMMIT")
    assert max(sum(len(row.data) for row in plan.rows) for plan in plans) <= STEP_BYTES + len(_LOG * 100)
    assert len(plans) >= 5
    assert len(_compressed_ids(database)) == 10


async def test_old_rows_are_compressed_when_they_are_merged(path: Path) -> None:
    storage = EagerStorage(path)
    rules = CompressionRules(after_ms=1000)
    storage._maintenance._policy = replace(storage._maintenance._policy, due_rows=1000, compression=rules)
    await storage.open()
    try:
        output = Output(await added(storage))
        few = _LOG[: _LOG.index(b"\n", 900) + 1]
        for _ in range(5):
            await storage.commit([output.chunk(few)])
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT id FROM compressed_upto").fetchone() == (5,)
            assert _compressed_ids(db) == []
            await storage.commit([CompleteOutput(output.handle, 1)])
            assert _compressed_ids(db) == [5]
    finally:
        await storage.close()


@pytest.mark.parametrize("streams", [(1, 1, 1, 1), (1, 2, 1, 2)])
async def test_rows_are_compressed_after_their_merge_is_decided(path: Path, streams: tuple[int, ...]) -> None:
    storage = EagerStorage(path)
    rules = CompressionRules(after_ms=1000)
    policy = replace(storage._maintenance._policy, due_rows=1000, min_rows=1000, compression=rules)
    storage._maintenance._policy = policy
    await storage.open()
    try:
        output = Output(await added(storage))
        chunks = [output.chunk(_LOG, Stream(stream)) for stream in streams]
        for chunk in chunks:
            await storage.commit([chunk])
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT id FROM compressed_upto").fetchone() == (4,)
            assert _compressed_ids(db) == []
            await storage.commit([CompleteOutput(output.handle, 1)])
            assert _compressed_ids(db) == [4]
            assert db.execute("SELECT count(*) FROM output_chunk WHERE codec IS NULL").fetchone() == (0,)
        assert await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 30)) == chunks
    finally:
        await storage.close()


# ---- when, and on which thread


async def test_the_setting_reaches_the_storage(path: Path) -> None:
    async def opened(compress_after_s: int | None) -> bool:
        storage = storage_from_url(f"sqlite:///{path}", durable=False, compress_after_s=compress_after_s)
        await storage.open()
        try:
            assert isinstance(storage, SqliteStorage)
            await storage._maintenance.wait_idle()
            with closing(sqlite3.connect(path)) as db:
                return bool(_compressed_ids(db))
        finally:
            await storage.close()

    assert not await opened(3600)
    with closing(open_writer(path, durable=False)) as db:
        output = _output(db)
        commit(db, [output.chunk(_LOG), CompleteOutput(output.handle, 1)])  # of 2024
        _forget_unmerged(db)
    assert not await opened(None)
    assert not await opened(2**31)
    assert await opened(3600)


@pytest.mark.parametrize(
    ("compress_after_s", "data", "is_compressed"),
    [
        (600, _LOG * 20, True),
        (600, _LOG, False),
        (600, secrets.token_bytes(5000) + _LOG * 20, False),
        (600, _LOG * 2 + secrets.token_bytes(100_000), False),
        (None, _LOG * 20, False),
    ],
    ids=["a flood", "small", "its beginning does not shrink", "too little is saved", "off"],
)
async def test_a_flood_is_compressed_when_it_is_stored(
    path: Path, compress_after_s: int | None, data: bytes, *, is_compressed: bool
) -> None:
    storage = storage_from_url(f"sqlite:///{path}", durable=False, compress_after_s=compress_after_s)
    await storage.open()
    try:
        output = Output(await added(storage))
        chunk = output.chunk(data, ts_ms=clock.now_ms())  # not old: only the commit may compress it
        await storage.commit([chunk])
        assert await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 30)) == [chunk]
        with closing(sqlite3.connect(path)) as db:
            assert bool(_compressed_ids(db)) == is_compressed
            (stored_bytes,) = db.execute("SELECT length(data) FROM output_chunk").fetchone()
        assert (stored_bytes < len(data) / 4) == is_compressed
    finally:
        await storage.close()


async def test_a_row_of_several_chunks_is_compressed_when_it_is_stored(path: Path) -> None:
    storage = storage_from_url(f"sqlite:///{path}", durable=False, compress_after_s=600)
    await storage.open()
    try:
        output = Output(await added(storage))
        began_ms = clock.now_ms()
        chunks = [output.chunk(_LOG, ts_ms=began_ms + n) for n in range(20)]
        await storage.commit(chunks)
        assert await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1 << 30)) == chunks
        with closing(sqlite3.connect(path)) as db:
            assert _compressed_ids(db) == [1]
    finally:
        await storage.close()


async def test_a_flood_is_compressed_off_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[threading.Thread] = set()

    def compress(data: bytes) -> bytes:
        threads.add(threading.current_thread())
        return zlib.compress(data)

    storage = EagerStorage(path)
    monkeypatch.setattr(storage, "_compress_flood", compress)
    await storage.open()
    try:
        output = Output(await added(storage))
        await storage.commit([output.chunk(_LOG)])
        assert threads
        assert threading.current_thread() not in threads
    finally:
        await storage.close()


async def test_compression_holds_up_neither_the_loop_nor_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    may_go_on = threading.Event()

    def slow(data: bytes) -> bytes:
        threads.add(threading.current_thread())
        may_go_on.wait(20)
        return data[:1]

    monkeypatch.setattr(codec, "compress", slow)
    storage = EagerStorage(path, compresses=True)
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

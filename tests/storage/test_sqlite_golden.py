"""A store that an older version left is brought up to date when it is opened, and shows everything that it holds."""

import gzip
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.plain_sql import register_sqlar_uncompress
from outlast.model.output import ChunkQuery, GapReason, Position, Stream, UnfinishedLine
from outlast.model.process import Process, ProcessQuery
from outlast.model.sql import SqlQuery
from outlast.model.totals import Counted, StartResult
from outlast.storage.sqlite import migrate
from outlast.storage.sqlite.connection import PAGE_SIZE_BYTES
from outlast.testing.storage.model import whole_lines
from outlast.testing.storage.samples import Output
from tests.storage.golden import history, rows
from tests.storage.stores import sqlite_storage

ROWS = sorted(history.FOLDER.glob("rows-*.db.gz"))
GOLDEN = sorted(history.FOLDER.glob("version-*.db.gz"))
VIEWS = ("processes", "runs", "output_lines", "output_tail", "output_lines_portable", "output_tail_portable")


def _shown(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows that an operator sees."""
    with closing(sqlite3.connect(path)) as db:
        register_sqlar_uncompress(db)
        db.text_factory = bytes  # not all of it is text
        return {view: db.execute(f"SELECT * FROM {view} ORDER BY 1, 2, 3").fetchall() for view in VIEWS}  # noqa: S608


async def _read(path: Path) -> tuple[list[Process], object, object]:
    """Return the processes and the output that the program sees."""
    storage = sqlite_storage(path)
    await storage.open()
    try:
        processes = await storage.processes(ProcessQuery())
        chunks = [
            await storage.chunks(ChunkQuery(handle=process.handle, max_bytes=1 << 30, stream=stream))
            for process in processes
            for stream in (None, *Stream)
        ]
        return processes, await storage.unfinished(), chunks
    finally:
        await storage.close()


@pytest.fixture
def fresh(path: Path) -> Path:
    """Path for a store of today's version."""
    return path.with_name("fresh.db")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
async def test_an_older_store_is_read_whole(path: Path, fresh: Path, golden: Path) -> None:
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    match = re.fullmatch(r"version-(\d+)\.db\.gz", golden.name)
    assert match is not None
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (int(match[1]),)
        assert db.execute("PRAGMA page_size").fetchone() == (PAGE_SIZE_BYTES,)
    await history.make(fresh)
    seen = await _read(path)
    assert seen == await _read(fresh)
    assert [process.spec.id for process in seen[0]] == list(history.IDS[::-1])
    assert _shown(path) == _shown(fresh)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(migrate.migrations()),)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
async def test_an_older_store_accepts_commits(path: Path, golden: Path) -> None:
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    storage = sqlite_storage(path)
    await storage.open()
    cat = next(entry for entry in await storage.unfinished() if entry.process.handle == 2)
    assert cat.position == Position(
        last_seq=2,
        lines=2,
        stdout_end=6,
        stderr_end=8,
        stdout_line=UnfinishedLine(run=1, first_seq=1, size=6),
    )
    output = Output(2, cat.position)
    chunks = [output.gap(100), output.chunk(b"Bob\n")]
    await storage.commit(chunks)
    assert await storage.chunks(ChunkQuery(handle=2, after_seq=2, max_bytes=100)) == chunks
    process = await storage.process(2)
    assert process is not None
    assert (process.output.lines, process.output.bytes, process.output.last_seq) == (3, 18, 4)
    totals = (await storage.figures()).totals
    did_count = ((Counted.STARTS, StartResult.RECORDED) in totals) is (golden.name >= "version-3")
    assert did_count, "a store of an older version begins to count at 0, and a later one goes on"
    assert (totals[Counted.OUTPUT_LINES, "stdout"] == 1) is (golden.name < "version-3")
    assert totals[Counted.GAPS, GapReason.LOST] == 1
    await storage.close()


@pytest.mark.parametrize("golden", ROWS, ids=lambda golden: golden.name)
async def test_rows_of_several_chunks_stay_readable(path: Path, golden: Path) -> None:
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    with closing(sqlite3.connect(path)) as db:
        parts, compressed = db.execute("SELECT count(parts), count(codec) FROM output_chunk").fetchone()
        assert parts >= 3
        assert compressed >= 4
    storage = sqlite_storage(path)
    await storage.open()
    try:
        for handle, chunks in ((1, rows.together()), (2, rows.one_by_one()), (4, rows.large())):
            assert await storage.chunks(ChunkQuery(handle=handle, max_bytes=1 << 30)) == chunks
            asked = SqlQuery(
                query="SELECT seq, ts, stream, line FROM output_lines WHERE process_id = :id ORDER BY seq",
                parameters={"id": history.IDS[handle - 1]},
                max_rows=20_000,
            )
            shown = json.loads(await storage.sql(asked))["rows"]
            assert shown == [
                [line.seq, line.ts_ms, line.stream.word, text.removesuffix(b"\n").decode(errors="replace")]
                for line in whole_lines(chunks)
                if (text := line.text()) is not None
            ]
    finally:
        await storage.close()

"""Faults: a full disk, a locked file, kill -9. No batch is stored in part, and every answered batch stays."""

import asyncio
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outlast.failpoints import VARIABLE
from outlast.model.errors import StorageUnavailable
from outlast.model.output import ChunkQuery
from outlast.model.process import ProcessQuery
from outlast.storage.base import PurgeProcess
from outlast.storage.sqlite import SqliteStorage
from outlast.testing.storage.samples import Output, added, new_process
from tests.storage.crashing_writer import KEPT
from tests.storage.stores import sqlite_storage

_KIB = 1024
_ROOT = Path(__file__).parents[2]
_WRITER = (sys.executable, "-m", "tests.storage.crashing_writer")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MiB, which needs root."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def _make_larger(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=5m", disk], check=True)


async def _fill(storage: SqliteStorage, output: Output) -> int:
    """Commit batches of two chunks until the disk is full. Return the number of stored lines."""
    while True:
        stored = output.position
        batch = [output.chunk(b"x" * 20 * _KIB + b"\n") for _ in range(2)]
        try:
            await storage.commit(batch)
        except StorageUnavailable as error:
            assert "full" in str(error)  # noqa: PT017
            output.position = stored
            return stored.last_seq


async def _goes_on(storage: SqliteStorage, output: Output) -> None:
    """Check that every answered batch is stored and nothing else, and that there is space again."""
    assert await storage.position(output.handle) == output.position
    await storage.commit([output.chunk(b"more\n")])
    assert await storage.tail(output.handle, 0) == output.position.last_seq


async def test_a_store_survives_a_full_disk(tiny_disk: Path) -> None:
    storage = sqlite_storage(tiny_disk / "outlast.db")
    await storage.open()
    try:
        output = Output(await added(storage))
        lines = await _fill(storage, output)
        assert lines > 2
        assert await _fill(storage, output) >= lines  # more may fit when the log has been written back
        _make_larger(tiny_disk)
        await _goes_on(storage, output)
    finally:
        await storage.close()
    with closing(sqlite3.connect(storage.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_store_survives_a_full_database(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    assert storage._writer is not None
    await storage._writer.run(lambda db: db.execute("PRAGMA max_page_count = 50").fetchall())
    lines = await _fill(storage, output)
    assert lines > 2
    assert await _fill(storage, output) == lines
    await storage._writer.run(lambda db: db.execute("PRAGMA max_page_count = 4000").fetchall())
    await _goes_on(storage, output)


async def test_a_locked_file_is_unavailable_until_it_is_released(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    assert storage._writer is not None
    await storage._writer.run(lambda db: db.execute("PRAGMA busy_timeout = 1").fetchall())
    chunk = output.chunk(b"line\n")
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            await storage.commit([chunk])
        assert await storage.tail(output.handle, 0) == 0  # reads still work
    await storage.commit([chunk])
    assert await storage.chunks(ChunkQuery(handle=output.handle, max_bytes=1)) == [chunk]


async def test_a_cancelled_commit_is_whole_or_absent(storage: SqliteStorage) -> None:
    outputs = [Output(await added(storage)) for _ in range(2)]
    for n in range(20):
        task = asyncio.create_task(storage.commit([output.chunk(b"%d\n" % n) for output in outputs]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        unfinished = await storage.unfinished()
        assert unfinished[0].position == unfinished[1].position
        outputs = [Output(entry.process.handle, entry.position) for entry in unfinished]
    assert await storage.commit([]) == {}


@pytest.mark.slow
async def test_a_kill_loses_no_answered_commit(path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"{seed = }")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    answered = 0
    for _ in range(6):
        answered = _kill_a_writer(path, answered + chance.randint(1, 80), chance.random() * 0.004)
        await _check_what_is_left(path, answered)


def _kill_a_writer(path: Path, until: int, after_s: float) -> int:
    """Let a child write until it has answered batch `until`, kill it a moment later; return the last answered batch."""
    command = [*_WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as child:
        assert child.stdout
        answered = 0
        while answered < until:
            answered = int(child.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(after_s)  # so that the kill falls anywhere within a commit
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            if line.endswith("\n"):
                answered = int(line)
    return answered


@pytest.mark.slow
@pytest.mark.parametrize("change", ["compaction", "compression"])
async def test_a_kill_during_maintenance_loses_nothing(path: Path, change: str) -> None:
    answered = 0
    for count in (1, 2, 9):
        environment = os.environ | {VARIABLE: f"inside-{change}:{count}"}
        child = subprocess.run(
            [*_WRITER, str(path), change],
            env=environment,
            capture_output=True,
            text=True,
            cwd=_ROOT,
            check=False,
            timeout=60,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        answered = int(child.stdout.split()[-1]) if child.stdout else answered
        await _check_what_is_left(path, answered)


async def _check_what_is_left(path: Path, answered: int) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    storage = sqlite_storage(path)
    await storage.open()
    try:
        await _check_whole_batches(storage, answered)
    finally:
        await storage.close()


async def _check_whole_batches(storage: SqliteStorage, answered: int) -> None:
    kept = await storage.processes(ProcessQuery(tags={"kept": "yes"}))
    assert len(kept) == KEPT
    counts = {process.output.lines for process in kept}
    assert len(counts) == 1
    assert answered <= counts.pop() <= answered + 1
    for process in kept:
        seen = 0
        while chunks := await storage.chunks(ChunkQuery(handle=process.handle, after_seq=seen, max_bytes=1 << 20)):
            assert [int(chunk.data.split()[0]) for chunk in chunks] == [chunk.first_seq for chunk in chunks]
            assert chunks[0].first_seq == seen + 1
            seen = chunks[-1].last_seq
        assert seen == process.output.lines
    assert await storage.total() - KEPT in (0, 1)  # the passing process of the batch that was being written
    for process in await storage.processes(ProcessQuery()):
        if process not in kept:
            await storage.commit([PurgeProcess(process.handle)])


async def test_an_unencodable_text_stores_nothing(storage: SqliteStorage) -> None:
    good, bad = new_process(), new_process(name="\ud800")
    with pytest.raises(UnicodeEncodeError):
        await storage.commit([good, bad])
    assert await storage.total() == 0
    assert await added(storage, good)

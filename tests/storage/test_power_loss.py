"""Loss of power in the middle of a flood: the file is sound, and contains every acknowledged batch.

The kernel keeps what a killed program has written. A loss of power keeps only what was synced (`fdatasync` had
returned), and of anything written since then any part: none, some sectors, or sectors of garbage. These tests make such
files.
"""

import random
import re
import secrets
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from outlast.model.output import ChunkQuery
from outlast.model.process import Process, ProcessQuery
from outlast.storage.base import PurgeProcess
from outlast.storage.sqlite import SqliteStorage
from tests.storage.power_writer import KEPT, line
from tests.storage.stores import sqlite_storage
from tests.support.trace import Range, Traced

pytestmark = pytest.mark.long

_SECTOR_BYTES = 512
_ROUNDS = 6
_MOST_TRIES = 20
_HITS = 3


@pytest.fixture
def chance() -> random.Random:
    seed = secrets.randbits(32)
    print(f"{seed = }")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_commits_are_synced_by_default(path: Path, *, durable: bool, synchronous: int) -> None:
    storage = sqlite_storage(path, durable=durable)
    await storage.open()
    try:
        assert storage._writer is not None
        assert await storage._writer.run(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (synchronous,)
    finally:
        await storage.close()


def test_the_folder_of_a_new_file_is_synced_before_the_first_answer(path: Path, tmp_path: Path) -> None:
    traced = Traced(tmp_path / "trace", "tests.storage.power_writer", f"sqlite:///{path}", "durable")
    traced.output.readline()
    traced.kill_after(0.0)
    told = next(n for n, call in enumerate(traced.calls()) if re.search(r" write\(1<", call))
    log_made = next(n for n, call in enumerate(traced.calls()) if f"<{path}-wal>" in call)
    synced = [n for n, call in enumerate(traced.calls()) if re.search(rf"sync\(\d+<{path.parent}>\) += 0", call)]
    assert any(log_made < n < told for n in synced)


async def test_acknowledged_commits_survive_power_loss(path: Path, tmp_path: Path, chance: random.Random) -> None:
    touched: set[str] = set()
    stored = 0
    for n in range(_ROUNDS):
        acknowledged, unsynced = _cut_off(path, tmp_path / "trace", stored + chance.randint(1, 400), chance, "durable")
        touched |= {Path(name).name for name, ranges in unsynced.items() if ranges}
        for name, ranges in unsynced.items():
            _damage(Path(name), ranges, chance)
        _check_with_plain_sqlite(path, tmp_path / f"copy-{n}")
        stored = await _check(path)
        assert stored >= acknowledged
    assert path.name + "-wal" in touched  # otherwise nothing was at risk


async def test_power_loss_during_a_checkpoint_loses_nothing(path: Path, tmp_path: Path, chance: random.Random) -> None:
    """A checkpoint writes to the database itself; all of that is still in the log, which was synced before."""
    hits = 0
    for n in range(_MOST_TRIES):
        traced = Traced(
            tmp_path / "trace", "tests.storage.power_writer", f"sqlite:///{path}", "durable", sync_us=50_000
        )
        answered = traced.kill_at(f"<{path}>, ")
        unsynced = traced.unsynced()
        for name, ranges in unsynced.items():
            if name.startswith(f"{path}"):
                _damage(Path(name), ranges, chance)
        _check_with_plain_sqlite(path, tmp_path / f"copy-{n}")
        assert await _check(path) >= int(answered[-1])
        hits += bool(unsynced[f"{path}"])  # or the kill came too late
        if hits == _HITS:
            return
    pytest.fail("the log was not being written back")


async def test_power_loss_without_syncs_loses_the_newest_commits(
    path: Path, tmp_path: Path, chance: random.Random
) -> None:
    """With `durable = false` the file is sound, but output is lost. This also shows that the test above can fail."""
    lost = 0
    stored = 0
    for n in range(_ROUNDS):
        acknowledged, unsynced = _cut_off(path, tmp_path / "trace", stored + chance.randint(9, 90), chance, "relaxed")
        for name, ranges in unsynced.items():
            _damage(Path(name), ranges, chance)
        _check_with_plain_sqlite(path, tmp_path / f"copy-{n}")
        stored = await _check(path)
        lost += stored < acknowledged
    assert lost


def _cut_off(
    path: Path, trace: Path, until: int, chance: random.Random, durable: str
) -> tuple[int, dict[str, list[Range]]]:
    """Let a child write until it has answered batch `until` and a moment longer.

    Returns:
        The last batch that was answered, and where the files may lose what was written.
    """
    traced = Traced(trace, "tests.storage.power_writer", f"sqlite:///{path}", durable)
    answered = 0
    while answered < until:
        answered = int(traced.output.readline())
    for said in traced.kill_after(chance.random() * 0.01):
        answered = int(said)
    return answered, {name: ranges for name, ranges in traced.unsynced().items() if name.startswith(f"{path}")}


def _damage(path: Path, ranges: list[Range], chance: random.Random) -> None:
    """Damage ranges that were never synced as a loss of power may: each sector is kept, zero or garbage."""
    if not path.exists():
        return
    if path.name.endswith("-shm"):
        path.write_bytes(chance.randbytes(path.stat().st_size))  # is not read after a crash, and never synced
        return
    size = path.stat().st_size
    kept_part = chance.choice([0.0, 0.5, 0.95])
    with path.open("r+b") as file:
        for start, end in ranges:
            for sector in range(start, min(end, size), _SECTOR_BYTES):
                if chance.random() >= kept_part:
                    length = min(_SECTOR_BYTES, end - sector, size - sector)
                    file.seek(sector)
                    file.write(chance.choice([bytes(length), chance.randbytes(length)]))
        if chance.random() < 0.5:
            file.truncate(chance.randint(_durable_size(size, ranges), size))


def _durable_size(size: int, ranges: list[Range]) -> int:
    """Return the size to which a file may shrink, because the rest was never synced."""
    for start, end in sorted(ranges, reverse=True):
        if end < size:
            break
        size = min(size, start)
    return size


def _check_with_plain_sqlite(path: Path, copy: Path) -> None:
    """Check the file with the sqlite3 program, on a copy, because the program checkpoints when it ends."""
    copy.mkdir()
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", copy / f"outlast.db{suffix}")
    program = ["sqlite3", str(copy / "outlast.db"), "PRAGMA quick_check"]
    asked = subprocess.run(program, capture_output=True, text=True, check=True)
    assert asked.stdout == "ok\n"
    shutil.rmtree(copy)


async def _check(path: Path) -> int:
    """Compare all output with the written output, and return the number of whole batches."""
    storage = sqlite_storage(path)
    await storage.open()
    try:
        processes = await storage.processes(ProcessQuery())
        kept = [process for process in processes if "kept" in process.spec.tags]
        for process in kept:
            await _check_output(storage, process)
        for process in processes:
            if process not in kept:
                await storage.commit([PurgeProcess(process.handle)])
    finally:
        await storage.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counts = {process.output.last_seq for process in kept}
    assert len(counts) <= 1
    return counts.pop() if len(kept) == KEPT else 0


async def _check_output(storage: SqliteStorage, process: Process) -> None:
    seen = 0
    while chunks := await storage.chunks(ChunkQuery(handle=process.handle, after_seq=seen, max_bytes=1 << 20)):
        for chunk in chunks:
            seen += 1
            assert (chunk.first_seq, chunk.line_count) == (seen, 1)
            assert chunk.data == line(seen, process.handle)
    assert seen == process.output.lines

"""Copies of a flooding daemon's database and log, as a loss of power could leave them: what answers told is there."""

import asyncio
import os
import random
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from outlast.model.output import ChunkQuery
from outlast.storage import Storage, storage_from_url
from tests.support.daemon import Daemon
from tests.support.load import FLOOD, flood_lines
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

_MOST_LOG_BYTES = 48 << 20  # far from where the log begins again: until then its newest bytes are its last
_COPIES = 8


class Told:
    """The output that answers have told of: the last line's number, and how long the log was after that.

    Such an answer is given after the commit, so what the log got later holds nothing that the line needs.
    """

    def __init__(self, daemon: Daemon, process: dict[str, str]) -> None:
        self._daemon = daemon
        self._process = process
        self._log = daemon.state_dir / "outlast.db-wal"
        self.seq = 0
        self.log_bytes = 0

    async def ask(self) -> None:
        """Ask until the answers end."""
        while True:
            seq = (await self._daemon.get(self._process))["output"]["last_seq"]
            self.seq, self.log_bytes = seq, self._log.stat().st_size


@pytest.fixture
def chance() -> random.Random:
    seed = secrets.randbits(32)
    print(f"{seed = }")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


def _stands_still(pid: int) -> bool:
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


async def _copy(daemon: Daemon, folder: Path) -> None:
    """Copy database and log as they are at one instant."""
    folder.mkdir()
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: _stands_still(daemon.pid))
        for name in ("outlast.db", "outlast.db-wal"):
            shutil.copy(daemon.state_dir / name, folder)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def _tear(log: Path, from_byte: int, chance: random.Random) -> None:
    """Cut off or garble what the log got behind the last line that was told: nothing says that it was ever synced."""
    size = log.stat().st_size
    at = chance.randint(from_byte, size)
    with log.open("r+b") as file:
        if chance.random() < 0.5:
            file.truncate(at)
        else:
            file.seek(at)
            file.write(chance.randbytes(size - at))


async def _check(folder: Path, handle: int, told: int) -> None:
    copy = shutil.copytree(folder, folder.with_suffix(".plain"))
    asked = subprocess.run(
        ["sqlite3", str(copy / "outlast.db"), "PRAGMA quick_check"], capture_output=True, text=True, check=True
    )
    assert asked.stdout == "ok\n"
    storage: Storage = storage_from_url(f"sqlite:///{folder}/outlast.db")
    await storage.open()
    try:
        chunks = await storage.chunks(ChunkQuery(handle=handle, max_bytes=1 << 30))
        assert len(await storage.unfinished()) == 1
    finally:
        await storage.close()
    data = b"".join(chunk.data for chunk in chunks)
    last = 0
    for chunk in chunks:
        assert chunk.first_seq == last + 1
        last = chunk.last_seq
    assert last >= told
    assert data.decode() == "".join(flood_lines(last)[:last])
    shutil.rmtree(copy)
    shutil.rmtree(folder)


async def test_output_that_answers_have_told_of_survives_a_loss_of_power(
    daemon: Daemon, tmp_path: Path, chance: random.Random
) -> None:
    process = await daemon.python(FLOOD, "0.004", stdin_mode="pipe")
    told = Told(daemon, process)
    asking = asyncio.create_task(told.ask())
    torn = 0
    for n in range(_COPIES):
        before = told.seq
        await eventually(lambda: told.seq > before)  # noqa: B023 - awaited at once
        await asyncio.sleep(chance.random() * 0.02)  # not for anything: so that the copy falls anywhere
        seq, log_bytes = told.seq, told.log_bytes
        await _copy(daemon, tmp_path / f"exact-{n}")
        shutil.copytree(tmp_path / f"exact-{n}", tmp_path / f"torn-{n}")
        log = tmp_path / f"torn-{n}" / "outlast.db-wal"
        if log.stat().st_size > _MOST_LOG_BYTES:
            break
        torn += log.stat().st_size > log_bytes
        _tear(log, log_bytes, chance)
        await _check(tmp_path / f"exact-{n}", process["handle"], seq)
        await _check(tmp_path / f"torn-{n}", process["handle"], seq)
    assert torn
    asking.cancel()
    await asyncio.wait([asking])

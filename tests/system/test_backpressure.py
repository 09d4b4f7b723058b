"""Floods into a store that takes nothing: the processes wait, and neither daemon nor shim grows beyond its bounds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlast.shim.connection.connection import TOTAL_WINDOW_BYTES
from outlast.shim.state.buffer import READ_BYTES
from outlast.testing.storage.faulty import Mode
from tests.support.daemon import Daemon, shim_pid
from tests.support.faulty import FaultyStore
from tests.support.waiting import eventually

MIB = 1 << 20
FLOODS = 12
EACH_BYTES = 10_000_000
SHIM_MEMORY_BYTES = 64 * MIB
# What the two may take beside the output itself: for frames, chunks, batches, and what a malloc does not give back.
BESIDE_BYTES = 16 * MIB
PROGRAM = f"import os\nfor n in range({EACH_BYTES // 100_000}):\n    os.write(1, (b'x' * 99 + b'\\n') * 1000)"


@pytest.fixture
def store(tmp_path: Path, state_dir: Path) -> FaultyStore:
    return FaultyStore(tmp_path, state_dir)


@pytest.fixture
async def daemon(tmp_path: Path, state_dir: Path, store: FaultyStore) -> AsyncIterator[Daemon]:
    config = tmp_path / "settings.toml"
    config.write_text(f"buffer_memory_bytes = {SHIM_MEMORY_BYTES}\n")
    running = Daemon(state_dir, OUTLAST_CONFIG=str(config), **store.environment)
    try:
        await running.start()
        yield running
    finally:
        store.mend()
        await running.end_everything()


def memory_bytes(pid: int, figure: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{figure}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(figure)


def buffered_bytes(pid: int) -> int:
    """Return the bytes of the buffer files that the shim has open: no process's memory counts them."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        if "outlast-output" in str(path.readlink()):
            found += path.stat().st_blocks * 512
    return found


async def test_nothing_grows_beyond_its_bounds(daemon: Daemon, store: FaultyStore) -> None:
    shim = shim_pid(daemon.state_dir)
    assert shim is not None
    gates = [await daemon.python("input()\n" + PROGRAM, stdin_mode="pipe") for _ in range(FLOODS)]
    before = {pid: memory_bytes(pid, "VmRSS") for pid in (daemon.pid, shim)}
    store.inject(Mode.STALL)
    for process in gates:
        await daemon.call("POST", f"/processes/{process['id']}/stdin", 204, data=b"\n")

    def grown() -> int:
        return memory_bytes(daemon.pid, "VmHWM") - before[daemon.pid]

    await eventually(lambda: buffered_bytes(shim) >= SHIM_MEMORY_BYTES - FLOODS * READ_BYTES)
    await eventually(lambda: grown() > TOTAL_WINDOW_BYTES // 2)
    now, earlier = (grown(), buffered_bytes(shim)), (0, 0)
    while now != earlier:  # until both have taken what they take
        await daemon.call("GET", "/info", 200)
        now, earlier = (grown(), buffered_bytes(shim)), now
    assert grown() < TOTAL_WINDOW_BYTES + BESIDE_BYTES
    assert memory_bytes(shim, "VmHWM") - before[shim] < BESIDE_BYTES
    assert buffered_bytes(shim) <= SHIM_MEMORY_BYTES + FLOODS * READ_BYTES + 4 * MIB
    store.mend()
    for process in gates:
        assert (await daemon.ended(process))["output"]["bytes"] == EACH_BYTES

"""They run to their ends and leave nothing behind. No speed is asserted."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.daemon import pids
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0


async def start(folder: Path, *words: str) -> asyncio.subprocess.Process:
    """Start a program whose temporary folder is `folder`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def output(process: asyncio.subprocess.Process) -> str:
    said, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return said.decode()


def running_in(folder: Path) -> list[str]:
    """Find the processes whose command names something in `folder`."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(folder) in words:
                found.append(f"{pid}: {words!r}")
    return found


async def test_bench(tmp_path: Path) -> None:
    process = await start(tmp_path, "-m", "bench", "--lines", "20000", "--rounds", "1", "--seconds", "1")
    table = await output(process)
    assert process.returncode == 0, table
    for row in ("outlast / supervisord", "outlast / plain file", "outlast / bare relay, p50", "machine ", "commit "):
        assert row in table
    rows = {line.strip().split("  ")[0] for line in table.splitlines()}
    assert {"outlast", "outlast, durable = false", "supervisord", "plain file", "bare relay"} <= rows, table
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("only", ["flood", "latency"])
async def test_interrupted_bench(tmp_path: Path, only: str) -> None:
    """Ctrl-C ends what was started."""
    process = await start(tmp_path, "-m", "bench", "--only", only, "--lines", "90000000", "--seconds", "1000")
    await eventually(lambda: any("app.shim" in found for found in running_in(tmp_path)), deadline_s=DEADLINE_S)
    process.send_signal(signal.SIGINT)
    said = await output(process)
    assert process.returncode == 128 + signal.SIGINT, said
    assert "Traceback" not in said
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_demo(tmp_path: Path) -> None:
    process = await start(tmp_path, "bench/demo.py", "--seconds", "2")
    told = await output(process)
    assert process.returncode == 0, told
    assert told.count("40 of 40 lines: 0 missing, 0 twice") == 2
    assert told.count("the process talks on") == 2
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []

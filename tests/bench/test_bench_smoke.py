"""Benchmarks and demo run to their ends and leave nothing behind. No speed is asserted."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measures import MEASURES
from bench.scale import growth
from tests.support.daemon import pids
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
RUN_PEER = """
import sys
from pathlib import Path
from bench.measures import MEASURES
name, folder, lines = sys.argv[1:]
MEASURES["flood-960k"].contestants[name](Path(folder), int(lines))
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path, whatever the test is called: that of a peer's unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)


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


def running_with(word: str) -> list[str]:
    """Find the processes whose command has `word` somewhere."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(word) in words:
                found.append(f"{pid}: {words!r}")
    return found


def running_in(folder: Path) -> list[str]:
    return running_with(str(folder))


def test_no_contestant_is_left_out() -> None:
    """`make test` installs what comes from npm."""
    left_out = {name: dict(measure.left_out) for name, measure in MEASURES.items() if measure.left_out}
    if left_out and "CI" not in os.environ:
        pytest.skip(f"left out: {left_out}")
    assert left_out == {}


@pytest.mark.parametrize("name", MEASURES)
async def test_each_measure_runs(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    process = await start(folder, "-m", "bench", "--only", name, "--smoke", "--rounds", "1", "--keep", str(tmp_path))
    said = await output(process)
    assert process.returncode == 0, said
    [path] = tmp_path.glob("*.json")
    [kept] = json.loads(path.read_text(encoding="utf-8"))["measures"]
    assert list(kept["rounds"]) == list(MEASURES[name].contestants)
    assert all(value > 0 for [figures] in kept["rounds"].values() for value in figures.values()), kept
    assert len(kept["rows"]) == len(MEASURES[name].rows)
    [page] = tmp_path.glob("*.md")
    assert f"| {name} " in page.read_text(encoding="utf-8")
    assert "commit " in said
    assert running_in(tmp_path) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["flood-960k", "latency"])
async def test_an_interrupted_bench_ends_its_processes(tmp_path: Path, name: str) -> None:
    """Ctrl-C ends what was started."""
    process = await start(tmp_path, "-m", "bench", "--only", name, "--size", "90000000")
    await eventually(lambda: any("outlast.shim" in found for found in running_in(tmp_path)), deadline_s=DEADLINE_S)
    process.send_signal(signal.SIGINT)
    said = await output(process)
    assert process.returncode == 128 + signal.SIGINT, said
    assert "Traceback" not in said
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_the_scale_bench_runs(tmp_path: Path) -> None:
    process = await start(tmp_path, "-m", "bench.scale", "--processes", "200", "--running", "1", "--times", "1")
    told = await output(process)
    assert process.returncode == 0, told
    assert "first answer after kill -9" in told
    assert len(re.findall(r"follow, tail .* 1\.00 x", told)) == 2
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_growth_is_the_exponent() -> None:
    assert growth({10: 3.0, 100: 3.0, 1000: 3.0}) == pytest.approx(0)
    assert growth({10: 1.0, 100: 10.0, 1000: 100.0}) == pytest.approx(1)
    assert growth({10: 1.0, 1000: 100.0}) == pytest.approx(1)


@pytest.mark.parametrize("peer", ["supervisord", "pm2", "circus"])
async def test_an_interrupted_bench_ends_its_peer(tmp_path: Path, peer: str) -> None:
    """Ctrl-C ends the peer, and the program that it runs."""
    if peer in MEASURES["flood-960k"].left_out:
        pytest.skip("left out")
    lines = 90_000_000 + os.getpid() * 10  # or a tenth of it: in the program's arguments, and in no other's
    process = await start(tmp_path, "-c", RUN_PEER, peer, str(tmp_path), str(lines))
    await eventually(lambda: any(file.stat().st_size for file in tmp_path.glob("stdout*.log")), deadline_s=DEADLINE_S)
    assert len(running_with(str(lines // 10))) == 2  # the bench, and the program
    process.send_signal(signal.SIGINT)
    said = await output(process)
    assert process.returncode == -signal.SIGINT, said
    assert running_in(tmp_path) == []
    await eventually(lambda: running_with(str(lines // 10)) == [], deadline_s=DEADLINE_S)


async def test_the_demo_runs(tmp_path: Path) -> None:
    process = await start(tmp_path, "-m", "examples.demo", "--seconds", "2")
    told = await output(process)
    assert process.returncode == 0, told
    assert told.count("40 of 40 lines: 0 missing, 0 twice") == 2
    assert told.count("the process talks on") == 2
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []

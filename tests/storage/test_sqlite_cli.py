"""I7: the plain `sqlite3` program reads the store, also while it is open and written to."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outlast.model.output import Stream
from outlast.model.process import ExitStatus, Reason
from outlast.model.usage import PeakUsage, RunUsage
from outlast.storage.base import CompleteOutput, EndRun, RecordUsage
from outlast.storage.sqlite import SqliteStorage
from outlast.testing.storage.samples import EPOCH_MS, Output, added, new_process
from tests.storage.stores import EagerStorage, FloodStorage
from tests.support.required import program

PEAK = PeakUsage(cpu_user_ms=1, cpu_system_ms=2, rss_bytes=3, processes=4, threads=5, open_files=6)
_DOCUMENT = Path(__file__).parents[2] / "docs" / "storage.md"


@pytest.fixture(autouse=True)
def sqlite3_program() -> None:
    program("sqlite3")


def _ask(path: Path, sql: str) -> list[dict[str, Any]]:
    answer = subprocess.run(["sqlite3", "-json", path, sql], check=True, capture_output=True, text=True)
    rows: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return rows


@pytest.fixture
async def ended(storage: SqliteStorage) -> str:
    """Store a process with an end and output on both streams, and return its id."""
    process = new_process(name="web", key="k", team="a")
    output = Output(await added(storage, process))
    await storage.commit(
        [
            output.chunk(b'first\tline\r\n"second" \\ line\n', ts_ms=EPOCH_MS + 7),
            output.chunk("dernière \N{PILE OF POO}".encode(), Stream.STDERR, ts_ms=EPOCH_MS + 1001),
            EndRun(output.handle, 1, ExitStatus(reason=Reason.SIGNALED, signal=9, ended_at_ms=EPOCH_MS + 2000)),
            CompleteOutput(output.handle, 1),
            RecordUsage(output.handle, 1, RunUsage(peak=PEAK)),
        ]
    )
    return process.spec.id


_TIMES: dict[str, int | str] = {
    "started_at": EPOCH_MS,
    "ended_at": EPOCH_MS + 2000,
    "started": "2024-03-09T16:00:00.000Z",
    "ended": "2024-03-09T16:00:02.000Z",
}
_END = {"status": "signaled", "exit_code": None, "signal": 9, "reason": "signaled", "output_complete": 1}


async def test_the_view_of_runs_shows_each_run(storage: SqliteStorage, ended: str) -> None:
    used = {"cpu_user_ms": 1, "cpu_system_ms": 2, "peak_rss_bytes": 3, "peak_pss_bytes": None}
    used |= {"peak_processes": 4, "peak_threads": 5, "peak_open_files": 6}
    expected = {"process_id": ended, "run": 1, "pid": 4711, **_TIMES, **_END, **used}
    assert _ask(storage.path, "SELECT * FROM runs") == [expected]


async def test_the_view_of_processes_shows_each_process(storage: SqliteStorage, ended: str) -> None:
    modes = {"stdin_mode": "closed", "stdout_mode": "capture", "stderr_mode": "capture", "options": "{}"}
    command = {"name": "web", "command": "/bin/true", "args": "[]", "working_dir": "/", "user": None}
    numbers = {"handle": 1, "pid": 4711, "run": 1, "lines": 3, "bytes": 42}
    tags = {"id": ended, "tags": '{"team":"a"}', "env_keys": "[]", "idempotency_key": "k"}
    expected = {**tags, **command, **numbers, **modes, **_TIMES, **_END}
    assert _ask(storage.path, "SELECT * FROM processes") == [expected]


@pytest.mark.parametrize("view", ["output_lines", "output_tail"])
async def test_the_views_of_lines_show_each_line(storage: SqliteStorage, ended: str, view: str) -> None:
    rows = [
        (1, EPOCH_MS + 7, "2024-03-09T16:00:00.007Z", "stdout", "first\tline\r"),
        (2, EPOCH_MS + 7, "2024-03-09T16:00:00.007Z", "stdout", '"second" \\ line'),
        (3, EPOCH_MS + 1001, "2024-03-09T16:00:01.001Z", "stderr", "dernière \N{PILE OF POO}"),
    ]
    columns = ("process_id", "run", "seq", "ts", "time", "stream", "line")
    expected = [dict(zip(columns, (ended, 1, *row), strict=True)) for row in rows]
    assert _ask(storage.path, f"SELECT * FROM {view} ORDER BY seq") == expected  # noqa: S608


@pytest.mark.parametrize("view", ["output_lines", "output_tail"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_the_views_show_the_lines_of_compressed_rows(path: Path, view: str, *, at_once: bool) -> None:
    storage = FloodStorage(path) if at_once else EagerStorage(path, compresses=True)
    await storage.open()
    try:
        output = Output(await added(storage))
        chunks = [output.chunk(b"GET /%d 200\n" % n * 500, Stream(1 + n % 2)) for n in range(4)]
        parts = [output.chunk(b"x" * 3000 + b"\nna"), output.chunk(b"m" * 3000 + b"e?\n", continues=True)]
        await storage.commit([*chunks, *parts, CompleteOutput(output.handle, 1)])
        assert _ask(path, "SELECT count(*) AS raw FROM output_chunk WHERE codec IS NULL") == [{"raw": 0}]
        lines = [line.decode().removesuffix("\n") for chunk in chunks for line in chunk.lines()]
        lines += ["x" * 3000, "na" + "m" * 3000 + "e?"]
        assert [row["line"] for row in _ask(path, f"SELECT line FROM {view} ORDER BY seq")] == lines  # noqa: S608
    finally:
        await storage.close()


async def test_the_program_sees_every_commit(storage: SqliteStorage) -> None:
    output = Output(await added(storage))
    for n in range(1, 4):
        await storage.commit([output.chunk(b"%d\n" % n)])
        assert _ask(storage.path, "SELECT max(seq) AS last FROM output_lines") == [{"last": n}]


async def test_the_documented_queries_run(storage: SqliteStorage) -> None:
    await added(storage)
    documented = re.findall(r"^```sql\n(.*?)^```", _DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(documented) >= 4
    for sql in documented:
        _ask(storage.path, sql)


async def test_every_column_of_the_views_is_documented(storage: SqliteStorage) -> None:
    text = _DOCUMENT.read_text(encoding="utf-8")
    columns = _ask(
        storage.path,
        "SELECT m.name AS view, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'view'",
    )
    assert columns
    assert [row for row in columns if f"`{row['name']}`" not in text or f"`{row['view']}`" not in text] == []

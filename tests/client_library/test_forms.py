"""The two forms of the client, and the types that both have."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.sync_client import MODULES, blocking, target

ROOT = Path(__file__).parents[2]

PROGRAM = """
from datetime import datetime
from outlast import AsyncOutlast, Outlast
from outlast.client import Completed, Gap, Line, NotFound, SpawnFailed


def blocking() -> None:
    with Outlast("http://127.0.0.1:9501", token="x") as ol:
        done: Completed = ol.run("make", "test", cwd="/", timeout=60, check=True)
        code: int | None = done.exit_code
        process = ol.start("sh", "-c", "true", name="web", restart="always", env={"A": "b"}, key="k")
        for item in process.follow(tail=100):
            if isinstance(item, Line):
                when: datetime = item.time
                text: str = item.text
            else:
                first: int = item.first
        for other in ol.processes(status="running", tags={"a": "b"}):
            pid: int = other.pid
        try:
            ol.process("x")
        except SpawnFailed as error:
            number: int = error.errno
        except NotFound as error:
            word: str = error.code


async def event_loop() -> None:
    async with AsyncOutlast() as ol:
        process = await ol.start("true")
        item: Line | Gap
        async for item in process.follow("stderr"):
            print(item)
        rows: list[dict[str, object]] = (await ol.sql("SELECT 1", [3])).dicts()
"""

WRONG = {
    'Outlast().start("true", nmae="web")': "nmae",
    'Outlast().start("true", timeout="60")': "timeout",
    "Outlast(1)": "Outlast",
    'Outlast().run("true").exitcode': "exitcode",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_blocking_form_is_made_of_the_other(name: str) -> None:
    assert target(name).read_text() == blocking(name), "run `make fix`"


@pytest.mark.slow
def test_a_program_of_a_user_has_types(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(PROGRAM)
    wrong.write_text("from outlast import Outlast\n\n" + "\n".join(WRONG))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run(
        [*command, str(right), str(wrong)], capture_output=True, text=True, check=False, cwd=tmp_path
    ).stdout.splitlines()
    complaints = [each for each in checked if ": error:" in each]
    assert [each for each in complaints if "right.py" in each] == []
    assert len(complaints) == len(WRONG), complaints
    for word, complaint in zip(WRONG.values(), complaints, strict=True):
        assert word in complaint

"""The Python of docs/storage.md and of the docstrings of outlast.testing, run as a plug-in's author would run it."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_DOCUMENT = Path(__file__).parents[2] / "docs" / "storage.md"
_PLUGIN = """
from pathlib import Path

from outlast.storage.sqlite import SqliteStorage


class MyStorage(SqliteStorage):
    @classmethod
    def from_url(cls, url, *, durable, compress_after_s=None):
        folder = Path(url.removeprefix("mystore:"))
        folder.mkdir(exist_ok=True)
        return cls(folder / "outlast.db", durable=False)
"""


def _documented() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", _DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """Return the folder of a plug-in's author, with the plug-in `mystore` installed."""
    (tmp_path / "mystore.py").write_text(_PLUGIN)
    information = tmp_path / "mystore-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mystore\nVersion: 0\n")
    (information / "entry_points.txt").write_text("[outlast.storage]\nmystore = mystore:MyStorage\n")
    return tmp_path


def _run_pytest(author: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=author,
        env=os.environ | {"PYTHONPATH": str(author), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("mode", [pytest.param("strict", marks=pytest.mark.long), "auto"])
def test_the_documented_test_file_passes(author: Path, mode: str) -> None:
    (author / "test_mystore.py").write_text(_documented()[0])
    done = _run_pytest(author, "-o", f"asyncio_mode={mode}", "-k", "a_new_storage or every_field or outlasts")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^[4-9] passed", done.stdout, re.MULTILINE), done.stdout


def test_the_documented_model_test_passes(author: Path) -> None:
    code = _documented()[1].replace("persistent=True)", "persistent=True, examples=2, steps=5)")
    assert "examples=2" in code
    (author / "test_mystore.py").write_text(code)
    done = _run_pytest(author)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("module", "number"), [("conformance", 0), ("stateful", 1)])
def test_the_docstring_shows_the_documented_code(module: str, number: int) -> None:
    text = importlib.import_module(f"outlast.testing.storage.{module}").__doc__
    (code,) = re.findall(r"^    from .*?(?=^\S)", text or "", re.MULTILINE | re.DOTALL)
    documented = re.sub(r" +# .*", "", _documented()[number])
    assert textwrap.dedent(code).strip() == documented.strip()


@pytest.mark.long
def test_failing_asserts_of_the_suite_show_their_values(author: Path) -> None:
    (author / "test_mystore.py").write_text(_documented()[0])
    broken = _PLUGIN + "\n    async def scan(self, scan):\n        return ScanPage(chunks=[], position=None)\n"
    (author / "mystore.py").write_text("from outlast.model.scan import ScanPage\n" + broken)
    done = _run_pytest(author, "-k", "stored_during_a_scan")
    assert done.returncode == 1, done.stdout
    assert "assert [] == [" in done.stdout


_SILENT = """
    async def commit(self, changes):
        handles = await super().commit(changes)
        with sqlite3.connect(self.path) as db:
            db.execute("DELETE FROM event WHERE type = 'restarted'")
        return handles
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("broken", "test", "finding"),
    [
        ("", "synced_before_its_answer", "syncs nothing"),  # it is opened with durable=False
        (_SILENT, "later_runs_tell", "RESTARTED"),
    ],
    ids=["no fsync", "no RESTARTED"],
)
def test_the_suite_finds_what_a_plugin_lacks(author: Path, broken: str, test: str, finding: str) -> None:
    (author / "test_mystore.py").write_text(_documented()[0])
    (author / "mystore.py").write_text("import sqlite3\n" + _PLUGIN + broken)
    done = _run_pytest(author, "-k", test)
    assert done.returncode == 1, done.stdout
    assert finding in done.stdout

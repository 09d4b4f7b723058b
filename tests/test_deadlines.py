"""Tests that hang fail."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HANGING = """
import asyncio, time, pytest
from tests.support import deadlines

def pytest_collection_modifyitems(items):
    deadlines._S, deadlines._FIXTURES_S = {limits}
    for item in items:
        deadlines.give(item)
"""
TESTS = """
import asyncio, time

async def test_that_waits():
    await asyncio.Event().wait()

def test_that_sleeps():
    time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("name", "limits", "message"), [("waits", "0.2, 60", "asyncio.Event().wait()"), ("sleeps", "1, 1", "Timeout")]
)
def test_a_test_that_hangs_fails_and_says_where(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, limits: str, message: str
) -> None:
    pytester.makeconftest(HANGING.format(limits=limits))
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    result = pytester.runpytest_subprocess("-k", name, "-p", "no:schemathesis")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines([f"*{message}*"])

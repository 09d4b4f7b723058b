"""The points at which tests kill: each is in the code once, and kills when it is armed."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outlast import failpoints

APP = Path(failpoints.__file__).parent


def test_every_point_is_in_the_code_once() -> None:
    found = [point for path in APP.rglob("*.py") for point in points_in(path)]
    assert sorted(found) == sorted(failpoints.POINTS)


def points_in(path: Path) -> list[str]:
    """Return the names in all calls of `failpoint`; a call may choose between two."""
    return [
        name.value
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "failpoint"
        for name in ast.walk(call)
        if isinstance(name, ast.Constant) and isinstance(name.value, str)
    ]


def passes(armed: str) -> subprocess.CompletedProcess[str]:
    program = "from outlast.failpoints import failpoint\n"
    program += "for i in range(3):\n    failpoint('after-ack')\n    print(i, flush=True)"
    environment = {**os.environ, failpoints.VARIABLE: armed}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("armed", "printed"), [("after-ack", ""), ("after-ack:3", "0\n1\n"), ("end-seen,after-ack:2", "0\n")]
)
def test_an_armed_point_kills(armed: str, printed: str) -> None:
    ended = passes(armed)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, printed)


@pytest.mark.parametrize("armed", ["", "end-seen", "after-ack:4"])
def test_a_point_that_is_not_armed_does_nothing(armed: str) -> None:
    assert (passes(armed).returncode, passes(armed).stdout) == (0, "0\n1\n2\n")


def test_an_unknown_point_is_refused() -> None:
    ended = passes("nowhere")
    assert ended.returncode == 1
    assert "unknown failpoint 'nowhere'" in ended.stderr

"""The examples of the documents run as they stand there."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.daemon import QUICK, Daemon
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    block
    for page in (ROOT / "README.md", ROOT / "docs" / "clients.md")
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    if "from outlast import" in block
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_runs(daemon: Daemon, example: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        example,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **QUICK, "OUTLAST_URL": daemon.url, "OUTLAST_STATE_DIR": str(daemon.state_dir)},
    )
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S + 10)
    said = output.decode()
    assert process.returncode == 0, said
    for promised in re.findall(r"print\(.*\) +# (.*)", example):
        assert promised in said

"""A short soak; `make soak` runs long ones."""

import random
from pathlib import Path

import pytest

from tests.soak.run import run


@pytest.mark.long
async def test_a_short_soak_finds_no_problem(tmp_path: Path) -> None:
    outcome = await run(tmp_path, seed=random.randrange(1 << 32), minutes=0.15)
    assert not outcome.problems, outcome.text

"""Short campaigns: one that is always the same, and one that never is. `make chaos` runs long ones."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.conftest import SUMMARY
from tests.chaos.run import run

_KILLS = 16  # so many that shims are among them
_FIXED_SEED = 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda: _FIXED_SEED, id="fixed"),
        pytest.param(lambda: random.randrange(1 << 32), id="random", marks=pytest.mark.long),
    ],
)
async def test_a_short_campaign_finds_no_difference(
    choose: Callable[[], int], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = choose()
    outcome = await run(tmp_path, seed=seed, kills=_KILLS, with_migrations=seed != _FIXED_SEED)
    record_property(SUMMARY, outcome.summary)
    assert outcome.passed, outcome.summary

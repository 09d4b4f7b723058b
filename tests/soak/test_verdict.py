"""The judge is judged, by figures whose growth is known."""

import random
from collections.abc import Sequence

import pytest

from tests.soak.verdict import MIB, Sample, judge, left_at_the_end

_EVERY_S = 10.0


def samples(figure: str, values: Sequence[float], *, life: int = 1) -> list[Sample]:
    return [Sample(i * _EVERY_S, True, True, life, life, {figure: value}) for i, value in enumerate(values)]


def verdicts(taken: list[Sample]) -> list[bool]:
    return [row.is_flat for row in judge(taken)]


def test_noise_is_flat() -> None:
    rng = random.Random(1)
    assert verdicts(samples("daemon USS", [180 * MIB + rng.uniform(-3, 3) * MIB for _ in range(60)])) == [True]


def test_the_warm_up_is_not_judged() -> None:
    assert verdicts(samples("daemon USS", [min(i, 18) * 10 * MIB for i in range(60)])) == [True]


def test_one_outlier_is_not_growth() -> None:
    values = [9 * MIB] * 60
    values[-1] += 50 * MIB
    assert verdicts(samples("shim USS", values)) == [True]


@pytest.mark.parametrize(("figure", "step"), [("daemon USS", 0.5 * MIB), ("shim USS", 0.1 * MIB), ("shim pidfds", 0.1)])
def test_growth_is_found_in_the_noise(figure: str, step: float) -> None:
    rng = random.Random(2)
    (row,) = judge(samples(figure, [100 * step + i * step + rng.uniform(-2, 2) * step for i in range(60)]))
    assert not row.is_flat
    assert row.an_hour == pytest.approx(step * 3600 / _EVERY_S, rel=0.1)


def test_shrinking_is_not_a_fault() -> None:
    assert verdicts(samples("daemon sockets", [100.0 - i for i in range(60)])) == [True]


def test_growth_from_life_to_life_is_found() -> None:
    first = samples("daemon memfds", [14.0] * 20)
    last = samples("daemon memfds", [17.0] * 20, life=2)
    assert verdicts(first + last) == [True, True, False]


def test_a_sample_above_its_bound_is_a_fault() -> None:
    assert verdicts(samples("WAL", [64.0 * MIB] * 20)) == [True]
    assert verdicts(samples("WAL", [97.0 * MIB] * 20)) == [False]


def test_leftovers_are_named() -> None:
    before = {"shim pidfds": 0.0, "daemon RSS": 50.0 * MIB, "cgroups": 0.0, "WAL": 0.0}
    after = {"shim pidfds": 1.0, "daemon RSS": 190.0 * MIB, "cgroups": 2.0, "WAL": 64.0 * MIB}
    assert [sentence.split(" was")[0] for sentence in left_at_the_end(before, after)] == ["shim pidfds", "cgroups"]


def test_memory_may_grow_more_in_a_life_of_seconds() -> None:
    values = [170.0 * MIB + i * 3 * MIB for i in range(9)]
    fast = [Sample(i * 0.5, True, True, 1, 1, {"daemon USS": value}) for i, value in enumerate(values)]
    assert verdicts(fast) == [True]
    assert verdicts(samples("daemon USS", [170.0 * MIB + i * 3 * MIB for i in range(18)])) == [False]


def test_more_threads_than_the_pool_has_are_left_over() -> None:
    assert left_at_the_end({"daemon threads": 8.0}, {"daemon threads": 13.0}) == []
    assert len(left_at_the_end({"daemon threads": 8.0}, {"daemon threads": 14.0})) == 1

"""Losses of each process when all together hold too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.retention.trimmer import losses_of


@pytest.mark.parametrize(
    ("sizes", "excess", "losses"),
    [
        ([100, 10, 5], 30, [30]),
        ([100, 90, 10], 30, [20, 10]),
        ([100, 100, 100], 30, [10, 10, 10]),
        ([100, 100], 31, [16, 16]),
        ([5, 4], 100, [5, 4]),
    ],
)
def test_the_largest_lose_until_they_are_of_the_same_size(sizes: list[int], excess: int, losses: list[int]) -> None:
    assert losses_of(sizes, excess) == losses


@given(st.lists(st.integers(1, 1000), min_size=1), st.integers(1, 5000))
def test_what_is_lost_is_what_was_too_much_and_no_smaller_process_loses(sizes: list[int], excess: int) -> None:
    sizes.sort(reverse=True)
    losses = losses_of(sizes, excess)
    left = [size - loss for size, loss in zip(sizes, losses, strict=False)]
    assert min(sum(sizes), excess) <= sum(losses) < excess + len(losses)
    assert all(level == left[0] for level in left)
    assert max(sizes[len(losses) :], default=0) <= left[0]

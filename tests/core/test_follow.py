"""The silence of a follower: only what a read of the store has found counts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from outlast.core.query.follow import follow
from outlast.core.query.wait_conditions import wait_for_silence
from outlast.model.output import Chunk
from outlast.testing.storage.samples import Output

HEARTBEAT_S = 0.01


class LateItem:
    """A reader that gets its one item at the moment at which a heartbeat is due."""

    is_interrupted = False

    def __init__(self) -> None:
        self._has_item = self._is_read = False

    def mark(self) -> None:
        pass

    def read_cached(self) -> Sequence[str]:
        if not self._has_item or self._is_read:
            return ()
        self._is_read = True
        return ["item"]

    async def read(self) -> Sequence[str]:
        raise AssertionError("everything is cached")

    def is_over(self) -> bool:
        return self._is_read

    async def wait(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)
        self._has_item = True


async def test_what_comes_when_a_heartbeat_is_due_comes_before_it() -> None:
    assert [items async for items in follow(LateItem(), HEARTBEAT_S)] == [["item"]]


async def given(*batches: Sequence[Chunk] | None) -> AsyncGenerator[Sequence[Chunk] | None, None]:
    for chunks in batches:
        yield chunks


PRINTED = [Output(1).chunk(b"x\n")]


@pytest.mark.parametrize(
    ("batches", "is_met"),
    [((None, None), False), ((None, ()), True), ((None, PRINTED), False), ((None, PRINTED, ()), False)],
    ids=["unreadable", "readable again", "printed meanwhile", "printed just now"],
)
async def test_a_store_that_cannot_be_read_is_no_silence(batches: Any, *, is_met: bool) -> None:
    assert await wait_for_silence(given(*batches), 60_000, silent_s=100, is_stored=lambda: True) is is_met


async def test_output_that_is_not_stored_yet_is_no_silence() -> None:
    answers = iter((False, False, True))
    assert await wait_for_silence(given((), (), ()), 60_000, silent_s=100, is_stored=lambda: next(answers))
    assert next(answers, None) is None  # all three were asked for

"""How long a test may take: what waits for something that never comes must not hold up the whole run."""

import asyncio
import functools
import inspect
from typing import Any

import pytest

_S = 240.0
_LONG_S = 1500.0
# What the fixtures get besides, which end processes.
_FIXTURES_S = 60.0


def give(item: pytest.Item) -> None:
    """Let the test fail at its deadline, and its fixtures, too.

    A coroutine is cancelled, so that the traceback shows where the coroutine waited. pytest-timeout ends whatever else
    hangs, and shows only where the main thread is.
    """
    limit_s = _LONG_S if item.get_closest_marker("long") else _S
    item.add_marker(pytest.mark.timeout(limit_s + _FIXTURES_S))
    test = getattr(item, "obj", None)
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(test):
        item.obj = _limited(test, limit_s)


def _limited(test: Any, limit_s: float) -> Any:
    @functools.wraps(test)
    async def limited(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(limit_s):
            await test(*arguments, **named)

    return limited

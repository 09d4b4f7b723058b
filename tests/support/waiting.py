"""Waiting for a condition with a deadline, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

DEADLINE_S = 20.0
_LOOK_AGAIN_S = 0.005
_LOOK_AGAIN_MOST_S = 0.05


@overload
async def eventually(look: Callable[[], Awaitable[T | None]], what: str = ..., deadline_s: float = ...) -> T: ...


@overload
async def eventually(look: Callable[[], T | None], what: str = ..., deadline_s: float = ...) -> T: ...


async def eventually(look: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """Return the first true answer of `look`, which is asked again and again until the deadline.

    The longer it takes, the more seldom it is asked: a look may be a call that the daemon has to answer.
    """
    began = time.monotonic()
    deadline = began + deadline_s
    while True:
        answer = look()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        now = time.monotonic()
        assert now < deadline, f"did not come true in {deadline_s} s: {what or inspect.getsource(look)}"
        await asyncio.sleep(min(max(_LOOK_AGAIN_S, (now - began) / 20), _LOOK_AGAIN_MOST_S))

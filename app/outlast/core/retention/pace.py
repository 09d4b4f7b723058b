"""The pace of retention: commits never wait for more than one small step."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

STUCK_S = 60.0
"""Time after which a step that cannot be committed is left to the committer, which tries it again."""

_REST_S = (0.005, 0.1)
"""Shortest and longest rest after a step. Most of a long step is a wait for others' commits."""


async def rest_after(step: Awaitable[T]) -> T:
    """Await a step, then leave the store to others for about as long as the step took, and return its result."""
    began = time.monotonic()
    result = await step
    await asyncio.sleep(min(max(_REST_S[0], time.monotonic() - began), _REST_S[1]))
    return result

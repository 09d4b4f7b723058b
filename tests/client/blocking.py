"""The Python client's blocking calls, each in a thread of its own."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from tensorlake.sandbox import ProcessStatus, Sandbox

from tests.support.waiting import eventually


async def call(function: Callable[..., Any], *args: Any, **fields: Any) -> Any:
    """Make one of the client's blocking calls."""
    return await asyncio.to_thread(partial(function, *args, **fields))


async def events(follow: Callable[..., Any], process: object) -> list[tuple[str, str | None]]:
    """Follow a process to the end."""
    return [(event.line, event.stream) for event in await call(lambda: list(follow(process)))]


async def ended(sandbox: Sandbox, process: int | str) -> Any:
    """Wait for the end of a process."""

    async def look() -> Any:
        seen = await call(sandbox.get_process, process)
        return seen if seen.status != ProcessStatus.RUNNING else None

    return await eventually(look, f"the end of {process}")

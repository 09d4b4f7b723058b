import asyncio
from typing import Any, cast

from outlast.core.output.committer import Committer
from outlast.core.supervision.usage_sampler import UsageSampler
from outlast.storage.memory.storage import MemoryStorage
from tests.support.waiting import eventually


async def test_nothing_wakes_a_sampler_without_processes() -> None:
    storage = MemoryStorage()
    registered = asyncio.Event()
    sampler = UsageSampler(storage, Committer(storage), (), registered)
    timers = cast("Any", asyncio.get_running_loop())._scheduled
    others = len(timers)
    sampler.start()
    for _ in range(10):  # turns of the loop, in which the task begins
        await asyncio.sleep(0)
    assert len(timers) == others
    registered.set()
    await eventually(lambda: len(timers) > others, "a timer for the first sample")
    await sampler.stop()

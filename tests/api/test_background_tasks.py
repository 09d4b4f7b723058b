"""Background tasks: what is heard of a change whose client has gone."""

import asyncio
import gc

import pytest

from outlast.api.streaming.response import BackgroundTasks
from outlast.model.errors import StorageUnavailable


async def test_a_change_that_fails_after_its_client_has_gone_is_one_short_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = BackgroundTasks()
    may_fail = asyncio.Event()

    async def change() -> None:
        await may_fail.wait()
        raise StorageUnavailable("the disk is full")

    caller = asyncio.create_task(tasks.run_to_completion(change()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    may_fail.set()
    await tasks.settle()
    await asyncio.sleep(0)
    gc.collect()
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("outlast.api.streaming.response", "a call whose client is gone failed: the disk is full")
    ]
    assert caplog.records[0].exc_info is None

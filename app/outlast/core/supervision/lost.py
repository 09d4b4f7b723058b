"""What is recorded of a process that has ended unseen."""

import asyncio
import time
from collections.abc import Iterator

from outlast.core.output.committer import Committer
from outlast.model.output import Chunk, GapReason
from outlast.model.process import ExitStatus, Reason
from outlast.storage import Change, CompleteOutput, EndRun, Unfinished


def record_loss(item: Unfinished, committer: Committer) -> asyncio.Future[None]:
    """Record it for as long as it takes, and return what is done when it is stored."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_handle: int) -> None:
        if not future.done():
            future.set_result(None)

    *before, last = _changes(item, time.time_ns() // 1_000_000)
    for change in before:
        committer.submit(change, lambda _handle: None)
    committer.submit(last, done)
    return future


def _changes(item: Unfinished, now_ms: int) -> Iterator[Change]:
    """Yield in order: each captured stream may have gone on, it ended as nobody knows, no more of it will come."""
    process, position = item.process, item.position
    for stream in process.spec.captured:
        gap = Chunk.gap_after(
            position,
            handle=process.handle,
            run=process.run.number,
            stream=stream,
            missing_bytes=0,
            reason=GapReason.LOST,
            ts_ms=now_ms,
        )
        position = gap.position
        yield gap
    if process.run.ending is None:
        yield EndRun(process.handle, process.run.number, ExitStatus(reason=Reason.LOST, ended_at_ms=now_ms))
    yield CompleteOutput(process.handle, process.run.number)

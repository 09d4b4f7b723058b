"""Recording that a process ended unseen."""

import asyncio
import time

from app.core.committer import Committer
from app.model.output import Chunk, GapReason, Stream
from app.model.process import Ending, OutputMode, Reason
from app.storage import CompleteOutput, EndRun, Unfinished


def lose(committer: Committer, item: Unfinished) -> asyncio.Future[None]:
    """Queue what is to be recorded of a process that nobody looks after any more; done when it is stored.

    What it wrote after its last stored line can't be known: each of its streams ends with a gap.
    """
    process, position = item.process, item.position
    now_ms = time.time_ns() // 1_000_000
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_handle: int) -> None:
        if not future.done():
            future.set_result(None)

    modes = {Stream.STDOUT: process.spec.stdout_mode, Stream.STDERR: process.spec.stderr_mode}
    for stream, mode in modes.items():
        if mode is OutputMode.CAPTURE:
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
            committer.submit(gap, lambda _handle: None)
    if process.run.ending is None:
        ending = Ending(reason=Reason.LOST, ended_at_ms=now_ms)
        committer.submit(EndRun(process.handle, process.run.number, ending), lambda _handle: None)
    committer.submit(CompleteOutput(process.handle, process.run.number), done)
    return future

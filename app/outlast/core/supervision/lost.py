"""The record of a run that ended while neither shim nor daemon could see it."""

import asyncio
from collections.abc import Iterator

from outlast.core.output.committer import Committer
from outlast.model.clock import now_ms
from outlast.model.output import MAX_UNSTORED_LINES, Chunk, GapReason
from outlast.model.process import ExitStatus, Reason
from outlast.storage import Change, CompleteOutput, EndRun, Unfinished


def record_loss(item: Unfinished, committer: Committer) -> asyncio.Future[int]:
    """Submit that a run is lost, and return a future that is done when this is stored."""
    *before, last = _changes(item, now_ms())
    for change in before:
        committer.submit(change)
    return committer.stored(last)


def _changes(item: Unfinished, ts_ms: int) -> Iterator[Change]:
    """Yield a gap for each captured stream, the end `lost` unless an end is stored, and the end of the output.

    Followers may have seen lines behind what is stored: the gap's number is greater than theirs.
    """
    process, position = item.process, item.position
    passed_over = MAX_UNSTORED_LINES
    for stream in process.spec.captured:
        gap = Chunk.gap_after(
            position,
            handle=process.handle,
            run=process.run.number,
            stream=stream,
            missing_bytes=0,
            reason=GapReason.LOST,
            ts_ms=ts_ms,
            passed_over=passed_over,
        )
        passed_over = 0
        position = position.after(gap)
        yield gap
    if process.run.ending is None:
        yield EndRun(process.handle, process.run.number, ExitStatus(reason=Reason.LOST, ended_at_ms=ts_ms))
    yield CompleteOutput(process.handle, process.run.number)

"""Retention in the storage in memory: who holds what, where to cut, and the cut."""

from collections.abc import Iterable
from dataclasses import replace

from outlast.model.output import Stream, Trimmed
from outlast.model.retention import END_BYTES, END_LINES, Holding, HoldingQuery, Rule, TrimPoint, TrimQuery
from outlast.storage.base import EndedProcess
from outlast.storage.memory.record import Record, Stored


def may_go(record: Record, ended: EndedProcess, until_ms: int | None, own_until_ms: int | None) -> bool:
    """Tell whether `Storage.ended` returns a process that has ended."""
    own_s = record.keep.ended_s
    if record.may_restart or record.keep.always:
        return False
    if own_until_ms is not None:
        return own_s is not None and own_s > 0 and ended.ended_at_ms <= own_until_ms - own_s * 1000
    return until_ms is None or own_s is None


def holdings(records: Iterable[Record], query: HoldingQuery) -> list[Holding]:
    """Implement `Storage.holdings`."""
    found = [
        holding
        for record in records
        if record.position.last_seq and (holding := _holding(record)).bytes > query.above_bytes
        if holding.handle > query.after_handle and _counts(holding, query)
    ]
    if query.rule is Rule.OUTPUT_S:
        found.sort(key=lambda holding: holding.oldest_ms or 0)
    elif query.rule is not None:
        found.sort(key=lambda holding: (-holding.bytes, holding.handle))
    return found[: query.limit]


def _holding(record: Record) -> Holding:
    stored = record.output[None]
    return Holding(
        handle=record.process.handle,
        bytes=record.held_bytes,
        oldest_ms=stored[0].latest_ms if stored else None,
        keep=record.process.spec.options.keep,
    )


def _counts(holding: Holding, query: HoldingQuery) -> bool:
    keep = holding.keep
    if query.rule is Rule.PROCESS_BYTES:
        return keep is None or keep.bytes is None
    if query.rule is Rule.TOTAL_BYTES:
        return keep is None or not keep.always
    if query.rule is Rule.OUTPUT_S:
        is_older = holding.oldest_ms is not None and (query.before_ms is None or holding.oldest_ms < query.before_ms)
        return is_older and (keep is None or keep.output_s is None)
    return keep is not None


def oldest_ms(records: Iterable[Record]) -> int | None:
    """Return the time of the oldest output."""
    first = min((record.output[None][0] for record in records if record.output[None]), key=_latest_ms, default=None)
    return None if first is None else first.chunk.ts_ms


def _latest_ms(stored: Stored) -> int:
    return stored.latest_ms


def trim_point(record: Record, query: TrimQuery) -> TrimPoint | None:
    """Implement `Storage.trim_point`."""
    stored = record.output[None]
    end = len(stored)
    if query.free_bytes is not None and not query.takes_all:
        end -= 1
    if query.spares_end:
        end = min(end, _begin_of_spared(record))
    upto = freed = 0
    for entry in stored[: max(0, end)]:
        is_young = query.before_ms is not None and entry.latest_ms >= query.before_ms
        if is_young or (query.free_bytes is not None and freed >= query.free_bytes):
            break
        upto, freed = entry.chunk.last_seq, freed + len(entry.chunk.data)
    return TrimPoint(upto_seq=upto, bytes=freed) if upto else None


def _begin_of_spared(record: Record) -> int:
    """Return the index of the first chunk of the end that goes last."""
    stored = record.output[None]
    lines = size = 0
    for index in range(len(stored), 0, -1):
        chunk = stored[index - 1].chunk
        if chunk.run != stored[-1].chunk.run or lines >= END_LINES or size >= END_BYTES:
            return index
        lines, size = lines + chunk.line_count, size + len(chunk.data)
    return 0


def trim(record: Record, upto_seq: int) -> list[int]:
    """Delete the chunks of a process that end at or before a number, and return their places."""
    stored = record.output[None]
    count = sum(entry.chunk.last_seq <= upto_seq for entry in stored)
    if not count:
        return []
    gone, last = stored[:count], stored[count - 1]
    for stream in record.output:
        record.output[stream] = [entry for entry in record.output[stream] if entry.chunk.last_seq > upto_seq]
    crossing = 0
    for stream in Stream:
        first = next(iter(record.output[stream]), None)
        crossing += first is not None and 0 < first.chunk.continues <= last.chunk.last_seq
    size = sum(len(entry.chunk.data) for entry in gone)
    record.held_bytes -= size
    before = record.process.output
    trimmed = Trimmed(
        last_seq=last.chunk.last_seq,
        lines=last.lines - crossing,
        bytes=size + (before.trimmed.bytes if before.trimmed else 0),
        until_ms=last.latest_ms,
    )
    lines = record.position.lines - trimmed.lines
    first_seq = trimmed.last_seq + 1
    record.set_output(replace(before, lines=lines, bytes=before.bytes - size, first_seq=first_seq, trimmed=trimmed))
    return [entry.place for entry in gone]

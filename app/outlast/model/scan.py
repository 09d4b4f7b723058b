"""Scans: reads of the output of many processes, page by page, in the order in which it was stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.model.output import Chunk, Stream
from outlast.model.process import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanQuery:
    """Conditions on the next chunks of a scan. Gaps are never part of it.

    Attributes:
        position: continue behind this position, in the direction of `order`; None: from the beginning.
        handle: only chunks of this process.
        stream: only chunks of this stream.
        since_ms: only chunks with `ts_ms` >= this; of a line in parts, that of the last counts.
        until_ms: only chunks with `ts_ms` <= this.
        max_chunks: maximum number of chunks to examine, including those that do not meet the conditions.
        max_bytes: the page ends with the chunk that brings its data to this size.
    """

    order: Order = Order.NEWEST
    position: int | None = None
    handle: int | None = None
    stream: Stream | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    max_chunks: int = 2000
    max_bytes: int = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPage:
    """Chunks with their positions (>= 1), and the `position` from which the scan continues; None: it is complete."""

    chunks: Sequence[tuple[int, Chunk]]
    position: int | None

"""Reading the output of many processes, piece by piece, in the order in which it was stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.model.output import Chunk, Stream
from outlast.model.process import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanQuery:
    """Which chunks to read next, gaps never.

    Attributes:
        position: go on behind this one, in the direction of `order`; None: begin.
        handle: only this process's.
        since_ms: only those read at this time or later, by their own time.
        until_ms: likewise, or earlier.
        max_chunks: look at so many at most, also those that are not wanted.
        max_bytes: stop after the chunk with which the data reach this size.
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
    """What was found: chunks with their positions (>= 1), and the `position` to go on from; None: there is no more."""

    chunks: Sequence[tuple[int, Chunk]]
    position: int | None

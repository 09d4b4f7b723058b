"""Histogram of a process's output: how many lines came when."""

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.model.output import Trimmed


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramQuery:
    """Which lines to count, and how finely.

    Attributes:
        handle: handle of the process.
        buckets: maximum number of buckets (>= 1).
        since_ms: only lines read at this time or later, where the first bucket begins; None: it begins with the output.
        until_ms: only lines read at this time or earlier, in the last bucket; None: that has the last output.
    """

    handle: int
    buckets: int
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of lines by the time at which they were read.

    Attributes:
        from_ms: begin of the first bucket.
        bucket_ms: duration of each bucket.
        lines: number of lines in each bucket, in order; empty: there is no output.
        stderr_lines: number of those of standard error.
        trimmed: output that was deleted, and perhaps read at a time that is wanted. It is not counted.
    """

    from_ms: int
    bucket_ms: int
    lines: Sequence[int]
    stderr_lines: Sequence[int]
    trimmed: Trimmed | None = None

"""Counting lines into a histogram. Plug-ins share it; they only find the times."""

from bisect import bisect_left
from collections.abc import Sequence

from outlast.model.histogram import Histogram, HistogramQuery
from outlast.model.output import Stream, Trimmed


class HistogramBuilder:
    """Builder of the histogram of a query, for output that was read from `first_ms` to `last_ms`."""

    def __init__(self, query: HistogramQuery, first_ms: int, last_ms: int, trimmed: Trimmed | None = None) -> None:
        """Prepare to count. `trimmed`: what is deleted of the output."""
        self._from_ms = first_ms if query.since_ms is None else query.since_ms
        self._last_ms = last_ms if query.until_ms is None else query.until_ms
        duration_ms = max(1, self._last_ms - self._from_ms + 1)
        self._bucket_ms = -(-duration_ms // query.buckets)
        count = -(-duration_ms // self._bucket_ms)
        self._lines = {stream: [0] * count for stream in Stream}
        self._trimmed = _wanted(query, trimmed)
        self._mark = trimmed.last_seq if trimmed else 0
        self._cut: set[Stream] = set()

    def begins_with_rest(self, stream: Stream, continues: int) -> bool:
        """Return whether a chunk begins with the rest of a line that is counted with an earlier part.

        Of a line whose first part is deleted, the first part that is not counts. To be called once for each chunk,
        those of a stream in their order. `continues`: see `Chunk`.
        """
        if 0 < continues <= self._mark and stream not in self._cut:
            self._cut.add(stream)
            return False
        return continues > 0

    def is_in_one(self, first_ms: int, last_ms: int) -> bool:
        """Return whether the lines of a time are all in one bucket."""
        is_inside = self._from_ms <= first_ms <= last_ms <= self._last_ms
        return is_inside and self._bucket(first_ms) == self._bucket(last_ms)

    def add(self, stream: Stream, ts_ms: int, lines: int) -> None:
        """Count lines that were read at one time, unless it is outside."""
        if self._from_ms <= ts_ms <= self._last_ms:
            self._lines[stream][self._bucket(ts_ms)] += lines

    def add_each(self, stream: Stream, times_ms: Sequence[int]) -> None:
        """Count one line for each of these ascending times that is not outside."""
        counts = self._lines[stream]
        begin = bisect_left(times_ms, self._from_ms)
        end = bisect_left(times_ms, self._last_ms + 1)
        while begin < end:
            bucket = self._bucket(times_ms[begin])
            behind = bisect_left(times_ms, self._from_ms + (bucket + 1) * self._bucket_ms, begin, end)
            counts[bucket] += behind - begin
            begin = behind

    def build(self) -> Histogram:
        """Return the histogram."""
        stdout, stderr = self._lines[Stream.STDOUT], self._lines[Stream.STDERR]
        return Histogram(
            from_ms=self._from_ms,
            bucket_ms=self._bucket_ms,
            lines=[out + err for out, err in zip(stdout, stderr, strict=True)],
            stderr_lines=stderr,
            trimmed=self._trimmed,
        )

    def _bucket(self, ts_ms: int) -> int:
        return (ts_ms - self._from_ms) // self._bucket_ms


def empty_histogram(query: HistogramQuery, trimmed: Trimmed | None = None) -> Histogram:
    """Return the histogram of a process without output. `trimmed`: what is deleted of it."""
    return Histogram(from_ms=0, bucket_ms=1, lines=(), stderr_lines=(), trimmed=_wanted(query, trimmed))


def _wanted(query: HistogramQuery, trimmed: Trimmed | None) -> Trimmed | None:
    return trimmed if trimmed and trimmed.is_since(query.since_ms) else None

"""Totals of all that a store was ever given. They only rise: a purge, or the end of a process, changes none."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outlast.model.exit_status import ExitStatus
from outlast.model.output import Chunk, Stream
from outlast.model.retention import Rule


class Counted(StrEnum):
    """Subject of a total, with the labels that the total has.

    `OUTPUT_BYTES`, `OUTPUT_LINES`: output, by `Stream.word`. A line in parts counts once. `GAPS`: gaps in output, by
    `GapReason`. `STARTS`: first starts, by `StartResult`. `RESTARTS`: later runs that were recorded; no label. `ENDS`:
    ends of runs, by `Reason`. `REMOVED_BYTES`, `REMOVED_PROCESSES`: what retention has deleted, by `Rule`: output, in
    bytes on the disk, that of purged processes included, and processes.
    """

    OUTPUT_BYTES = "output_bytes"
    OUTPUT_LINES = "output_lines"
    GAPS = "gaps"
    STARTS = "starts"
    RESTARTS = "restarts"
    ENDS = "ends"
    REMOVED_BYTES = "removed_bytes"
    REMOVED_PROCESSES = "removed_processes"


class StartResult(StrEnum):
    """Result of a start: `RECORDED`, and then `FAILED` if its program could not be executed (a later run, too)."""

    RECORDED = "recorded"
    FAILED = "failed"


Totals = Mapping[tuple[Counted, str], int]
"""Totals by what is counted and by label. What is missing is 0."""

NO_LABEL = ""


class Tally(Counter[tuple[Counted, str]]):
    """A count of changes that a store applies. Changes that a store ignores must not be counted."""

    def count_chunk(self, chunk: Chunk) -> None:
        """Count a chunk that was not stored before."""
        if chunk.gap is not None:
            self[Counted.GAPS, chunk.gap] += 1
        else:
            in_bytes, in_lines = _OF_STREAM[chunk.stream]
            self[in_bytes] += len(chunk.data)
            self[in_lines] += chunk.line_count - (chunk.continues > 0)

    def count_start(self, result: StartResult) -> None:
        """Count a start that is recorded, or fails."""
        self[Counted.STARTS, result] += 1

    def count_restart(self) -> None:
        """Count a later run."""
        self[Counted.RESTARTS, NO_LABEL] += 1

    def count_end(self, ending: ExitStatus) -> None:
        """Count the end of a run."""
        self[Counted.ENDS, ending.reason] += 1

    def count_removed(self, rule: Rule, count: int) -> None:
        """Count bytes of output that a rule deletes."""
        if count:  # else there would be a total to write that has not changed
            self[Counted.REMOVED_BYTES, rule] += count

    def count_purge(self, rule: Rule, held_bytes: int) -> None:
        """Count a process that a rule deletes, and its output."""
        self[Counted.REMOVED_PROCESSES, rule] += 1
        self.count_removed(rule, held_bytes)


_OF_STREAM = {stream: ((Counted.OUTPUT_BYTES, stream.word), (Counted.OUTPUT_LINES, stream.word)) for stream in Stream}
OUTPUT_TOTALS = tuple(key for keys in _OF_STREAM.values() for key in keys)
"""The totals of output, in a fixed order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFigures:
    """Totals and sizes of a store. None: the store has no such figure.

    Attributes:
        totals: what it was ever given.
        oldest_output_ms: time of the oldest output that is not deleted.
        database_bytes: size of its data on disk.
        log_bytes: size of its write-ahead log.
        free_bytes: part of `database_bytes` that is free, and is used before the data grow.
        filesystem_free_bytes: space that is left to it on its file system.
    """

    totals: Totals = field(default_factory=dict)
    oldest_output_ms: int | None = None
    database_bytes: int | None = None
    log_bytes: int | None = None
    free_bytes: int | None = None
    filesystem_free_bytes: int | None = None

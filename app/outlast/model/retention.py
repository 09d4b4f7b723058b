"""Questions of retention to the store: who holds how much, and where to cut."""

from dataclasses import dataclass
from enum import StrEnum

from outlast.model.options import Keep


class Rule(StrEnum):
    """Setting by which something is deleted."""

    OUTPUT_S = "keep_output_s"
    PROCESS_BYTES = "keep_process_bytes"
    TOTAL_BYTES = "keep_total_bytes"
    ENDED_S = "keep_ended_s"
    ENDED = "keep_ended"
    EVENTS_S = "keep_events_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Holding of a process: its output on the disk that is not deleted.

    Attributes:
        handle: handle of the process.
        bytes: size on the disk, as far as the store can tell. Compressed output counts as it is stored.
        oldest_ms: latest time of a process's output up to its first row; None: it has no output.
        keep: what its start says.
    """

    handle: int
    bytes: int
    oldest_ms: int | None
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingQuery:
    """Query for holdings, in one of three ways.

    Attributes:
        rule: `PROCESS_BYTES` or `TOTAL_BYTES`: the most bytes first, and of equal ones the lower handle. `OUTPUT_S`:
            the oldest output first. None: those whose start says `keep`, by handle. The others leave out processes for
            which the rule does not count: whose `keep` says `bytes`, `always` or `output_s`, in this order.
        above_bytes: only those with more bytes.
        before_ms: only those with `oldest_ms` < this.
        after_handle: only those with a greater handle.
        limit: maximum number of holdings (>= 1).
    """

    rule: Rule | None = None
    above_bytes: int = -1
    before_ms: int | None = None
    after_handle: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimQuery:
    """Question where to cut the output of a process. One of `free_bytes` and `before_ms` is given.

    Attributes:
        handle: handle of the process.
        free_bytes: bytes on the disk that are to be deleted. The last row is not: it stays, whatever its size.
        before_ms: output is deleted whose time, and that of all before it, is < this.
        spares_end: whether the last 1,000 lines or 64 KiB of the last run stay, whichever is less.
        takes_all: with `free_bytes`: whether the last row goes, too.
    """

    handle: int
    free_bytes: int | None = None
    before_ms: int | None = None
    spares_end: bool = False
    takes_all: bool = False


END_LINES = 1000
END_BYTES = 64 * 1024
"""The end of the last run, which `TrimQuery.spares_end` spares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimPoint:
    """The number of the last line to delete, and how many bytes on the disk that are."""

    upto_seq: int
    bytes: int

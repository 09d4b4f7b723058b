"""Sizes that a terminal was given while its program ran."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Size of a terminal from a time on, in milliseconds since the epoch."""

    ts_ms: int
    rows: int
    cols: int

"""The limits of what is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The limits of retention. A limit of 0 deletes nothing.

    Attributes:
        ended_ms: time after its end at which a process is purged.
        ended: number of ended processes that are kept; beyond it, the oldest end is purged first.
    """

    ended_ms: int = 0
    ended: int = 0

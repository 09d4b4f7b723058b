"""The limits of what is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The limits of retention. A limit of 0 deletes nothing.

    Attributes:
        output_ms: age at which output is deleted.
        process_bytes: bytes on the disk beyond which the oldest output of a process is deleted.
        total_bytes: the same for the output of all processes; the process that holds most loses its oldest.
        ended_ms: time after its end at which a process is purged.
        ended: number of ended processes that are kept; beyond it, the oldest end is purged first.
        events_ms: age at which events are deleted.
    """

    output_ms: int = 0
    process_bytes: int = 0
    total_bytes: int = 0
    ended_ms: int = 0
    ended: int = 0
    events_ms: int = 0


KEEP_ALL = RetentionPolicy()
"""Nothing is deleted."""

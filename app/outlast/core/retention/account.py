"""The account of what retention has deleted, for the log."""

import logging
import time
from collections import Counter

from outlast.model.retention import Rule

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 3600.0
"""Minimum time between two log lines that tell what was deleted."""

_TOLD = {
    Rule.OUTPUT_S: "output",
    Rule.PROCESS_BYTES: "output",
    Rule.TOTAL_BYTES: "output",
    Rule.ENDED_S: "ended processes",
    Rule.ENDED: "ended processes",
    Rule.EVENTS_S: "events",
}
_BYTES = (Rule.OUTPUT_S, Rule.PROCESS_BYTES, Rule.TOTAL_BYTES)
_MEBIBYTE = 1 << 20


class Account:
    """Bytes of output, and numbers of processes and events, that were deleted by each rule since the last log line."""

    def __init__(self) -> None:
        self._deleted: Counter[Rule] = Counter()
        self._logged_at: float | None = None

    def add(self, rule: Rule, count: int) -> None:
        """Count what was deleted: bytes, processes or events."""
        self._deleted[rule] += count

    def summary(self) -> str:
        """Return what was deleted since the last log line; empty: nothing."""
        return ", ".join(_told(*item) for item in sorted((+self._deleted).items()))

    def tell(self) -> None:
        """Log what was deleted, at most once an hour."""
        now = time.monotonic()
        told = self.summary()
        if not told or (self._logged_at is not None and now - self._logged_at < LOG_INTERVAL_S):
            return
        log.info("deleted to keep within the limits: %s", told)
        self._deleted.clear()
        self._logged_at = now


def _told(rule: Rule, count: int) -> str:
    size = f"{count / _MEBIBYTE:.1f} MiB of" if rule in _BYTES else f"{count}"
    return f"{size} {_TOLD[rule]} by {rule}"

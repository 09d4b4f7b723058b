"""The time of day in the unit that Outlast stores and reports, and the clock by which it waits."""

import time


def now_ms() -> int:
    """Return the time in milliseconds since 1970-01-01 00:00 UTC."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return milliseconds of the monotonic clock, which all programs share until the machine is started again."""
    return time.monotonic_ns() // 1_000_000

"""The identity of the kernel's run, from one start of the machine to the next."""

import functools
from pathlib import Path


@functools.cache
def boot_id() -> str:
    """Return the id of this run of the kernel; empty if /proc does not show it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""

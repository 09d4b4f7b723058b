"""Space on the file system of a folder."""

import os
from pathlib import Path

NEARLY_FULL_PERCENT = 90


def free_bytes(folder: Path) -> int | None:
    """Return the space that is left on the file system of a folder. None: the folder has gone."""
    try:
        system = os.statvfs(folder)
    except OSError:
        return None
    return system.f_bavail * system.f_frsize


def warn_if_nearly_full(folder: Path) -> str | None:
    """Return a sentence if the file system of a folder is nearly full. It may wait for a disk: call it on a thread."""
    try:
        system = os.statvfs(folder)
    except OSError:  # the folder has vanished, and others tell of that
        return None
    used = system.f_blocks - system.f_bfree
    usable = used + system.f_bavail  # root keeps some blocks for itself, which others cannot use
    if not usable or used * 100 < usable * NEARLY_FULL_PERCENT:
        return None
    return (
        f"the disk of {folder} is {used * 100 // usable} % full, {system.f_bavail * system.f_frsize >> 20} MiB are "
        "free: make room, or lower the limits keep_...; on a full disk, output waits and starts are refused"
    )

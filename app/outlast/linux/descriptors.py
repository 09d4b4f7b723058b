"""Descriptors of this process: how many it may have, how many are free, and how many are kept for what must go on."""

import contextlib
import os
import resource

_FOLDER = "/proc/self/fd"
_RESERVE = 64
_RESERVED_SHARE = 4
_PLENTY = 1024


def raise_limit() -> None:
    """Raise the soft limit on descriptors to the hard one, where the system allows that."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """Return how many descriptors this process may have open. It may change at any time (prlimit)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free() -> int:
    """Return how many more descriptors this process may open; where there are thousands, perhaps too few of them."""
    most = limit()
    try:
        used = os.stat(_FOLDER).st_size or _count_used(most)  # the kernel counts them since Linux 6.2
    except OSError:  # none is left to look with
        return 0
    return max(0, most - used)


def reserve() -> int:
    """Return how many descriptors only that may take which must always be possible.

    Those are: the connection between daemon and shim, the store's files, /proc, and the end of everything. Starts,
    clients and spool files leave that many free. A daemon has a dozen more files of its own than a shim, and gets all
    that the shim has of the processes: it can take that because the shim leaves the same number free.
    """
    return min(_RESERVE, limit() // _RESERVED_SHARE)


def has_room(count: int) -> bool:
    """Tell whether `count` descriptors more leave the reserve untouched."""
    return free() - count >= reserve()


def _count_used(most: int) -> int:
    """Count the descriptors, or return the size of their table if that would leave plenty."""
    with open("/proc/self/status", "rb") as file:
        table = next(int(line.split()[1]) for line in file if line.startswith(b"FDSize:"))
    return table if table <= most - _PLENTY else len(os.listdir(_FOLDER))

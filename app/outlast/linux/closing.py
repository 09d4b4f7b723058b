"""Closing inherited descriptors.

The program that forks for the shim is a copy of this module's importer: it imports next to nothing.
"""

import ctypes
import os
from collections.abc import Sequence

_SYS_CLOSE_RANGE = 436  # on every architecture
_FIRST, _LAST = 3, 2**32 - 1
_LIBC = ctypes.PyDLL(None)


def close_all_but(kept: Sequence[int]) -> None:
    """Close all descriptors of this process from 3 on, except those that are kept.

    Where the system refuses close_range(2) (Linux < 5.9), /proc tells which there are. Python would try every number up
    to the limit on open files, which takes minutes where there is no such limit.

    Raises:
        OSError: neither is possible.
    """
    first = _FIRST
    for fd in (*sorted(kept), _LAST + 1):
        if first < fd and not _close_range(first, fd - 1):
            _close_one_by_one(kept)
            return
        first = fd + 1


def _close_range(first: int, last: int) -> bool:
    return int(_LIBC.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))) == 0


def _close_one_by_one(kept: Sequence[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) >= _FIRST and fd not in kept:
            os.closerange(fd, fd + 1)  # which passes over the list's own descriptor, closed by now

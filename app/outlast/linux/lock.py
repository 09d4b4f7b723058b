"""Locks that the system lets go of when their holder ends, and that tell who holds them."""

import fcntl
import os
import struct
from pathlib import Path

SHIM_LOCK_NAME = "shim.lock"
DAEMON_LOCK_NAME = "lock"

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux


def take(path: Path) -> int | None:
    """Take the lock on `path`, and return its descriptor; None: another process holds it.

    To be called once a process: the system lets go when any descriptor of the file is closed.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds the lock on `path`; None: nobody does. Not for the holder itself."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else int(pid)

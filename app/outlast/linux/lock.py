"""File locks that the kernel releases when their holder ends, and that name their holder."""

import fcntl
import os
import struct
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux


def acquire(path: Path) -> int | None:
    """Lock the file at `path` and return its descriptor. None: another process holds the lock.

    Call this once in a process: the kernel releases the lock when any descriptor of the file is closed.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds the lock at `path`. None: no process. 0: one outside this container.

    The holder itself must not call this.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, query))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else int(pid)


def flock_holder(fd: int) -> int | None:
    """Return the pid of the process that holds the flock(2) lock of a file. None: not known, as outside this container.

    flock(2) itself does not tell. /proc/locks names the device as the file system does, which `os.fstat` may not.
    """
    inode = str(os.fstat(fd).st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        _number, kind, _advisory, _access, pid, place, *_range = line.replace(" -> ", " ").split()
        if kind == "FLOCK" and place.rpartition(":")[2] == inode and int(pid) > 0:
            return int(pid)
    return None

"""Locks that the kernel releases when their holder ends.

A locked file names its holder. It can be removed under a lock, and another file locked in its place; so its folder,
which cannot be removed apart from what is in it, is locked too.
"""

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
_FOLDER_TRIES = 50
_FOLDER_RETRY_S = 0.01
"""Time between two tries. A child that a killed holder has just forked shares its lock until it runs its program."""


def acquire(path: Path) -> int | None:
    """Lock the file at `path` and return its descriptor. None: another process holds the lock.

    Call this once in a process: the kernel releases the lock when any descriptor of the file is closed.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def acquire_in_folder(folder: Path, name: str, number: int) -> tuple[int, int] | None:
    """Lock the file `name` in a folder, and the folder itself for the use `number`.

    Returns:
        The descriptors of the folder and of the file. None: another process holds one of the locks.

    Raises:
        OSError: the folder or the file cannot be opened.
    """
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = acquire(folder / name)
    except OSError:
        os.close(folder_fd)
        raise
    if fd is not None and _hold_folder(folder_fd, number):
        return folder_fd, fd
    os.close(folder_fd)
    if fd is not None:
        os.close(fd)
    return None


def _hold_folder(fd: int, number: int) -> bool:
    """Lock byte `number` of a folder, as long as the descriptor or a copy of it is open.

    A folder takes only locks for reading, which many can have. So each takes one, and withdraws if it is not alone.
    """
    mine = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, number, 1, 0)
    others = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
    for _ in range(_FOLDER_TRIES):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, mine)
            kind, *_rest = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, others))
        except OSError as exc:
            if exc.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return True  # a system without such locks has the locked file only
            raise
        if kind == fcntl.F_UNLCK:
            return True
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, number, 1, 0))
        time.sleep(_FOLDER_RETRY_S)
    return False


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

"""What only Linux has, each behind one function with its fallback beside it."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys

_PR_SET_CHILD_SUBREAPER = 36
_PIPE_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 << 20


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process, so that they can be found and reaped.

    Returns False where the system has no such thing: orphans then go to init.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def say(sentence: str) -> None:
    """Write to the log. A full disk must not end the shim."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def keep_freed_memory() -> None:
    """Let the allocator keep what a flood's blocks take, instead of giving it back and faulting it in for each block.

    Where the C library has no mallopt, it costs some speed and nothing else.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def widen_pipe(fd: int) -> None:
    """Ask for a 1 MiB pipe: fewer, larger reads in a flood. Where the user's quota says no, it stays as it is."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def peer_uid(connection: socket.socket) -> int:
    """Return the user id at the other end of a unix socket, from the kernel."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def socket_address(directory_fd: int, name: str) -> str:
    """Return an address for a unix socket that fits into 108 bytes, however long its directory's path."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def pidfd_open(pid: int) -> int:
    """Open a file descriptor that stands for this very process and no later one with its pid.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return os.pidfd_open(pid)

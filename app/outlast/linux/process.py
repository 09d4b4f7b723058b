"""Processes: pidfds, exit statuses, signals, orphans."""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import stat
import struct
import sys

from outlast.linux.proc import is_fully_visible, read_stat, read_zombie_status
from outlast.linux.refused import is_refused

_PR_SET_CHILD_SUBREAPER = 36
# struct pidfd_info of linux/pidfd.h in its first version: mask, cgroup, eleven ids, exit_code
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process, so that it can find and reap them.

    Returns:
        False where the system has no subreapers: orphans then go to init.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def pidfd_open(pid: int) -> int:
    """Open a file descriptor that stands for this very process and no later one with its pid.

    Where the system refuses pidfds, it is the process's folder in /proc. All functions here take that, too, but no poll
    tells of the end of the process: see `is_pollable`.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError) as exc:
        if not is_refused(exc):
            raise
    try:
        return os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def is_pollable(pidfd: int) -> bool:
    """Tell whether a poll of what `pidfd_open` returned tells of the end of the process."""
    return not stat.S_ISDIR(os.fstat(pidfd).st_mode)


def has_ended(pidfd: int) -> bool:
    """Tell whether the process has ended, reaped or not."""
    if not is_pollable(pidfd):
        seen = read_stat(folder=pidfd)
        return seen is None or not (seen.is_running or seen.threads > 1)  # other threads outlive the first one
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def exit_status(pidfd: int, pid: int) -> int | None:
    """Return the wait status of an ended process that is not a child of this one. None: the kernel does not tell (yet).

    After the process has been reaped, its pidfd tells (PIDFD_GET_INFO, Linux 6.15). Before, while it is a zombie,
    /proc tells, but not for processes of every user.
    """
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *(0,) * 13))
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, *_, status = _PIDFD_INFO.unpack(info)
        if mask & _PIDFD_INFO_EXIT:
            return int(status)
    try:
        if not is_pollable(pidfd):
            return read_zombie_status(folder=pidfd) if is_fully_visible(pid) else None
        status = read_zombie_status(pid)
        if status is None or not is_fully_visible(pid):
            return None
        signal.pidfd_send_signal(pidfd, 0)  # not reaped yet, so `status` is not that of a later process with this pid
    except (OSError, AttributeError):
        return None
    return status


def signal_process(pidfd: int, pid: int, number: int) -> None:
    """Signal one process and no later one with its pid.

    Raises:
        ProcessLookupError: the process has ended.
        PermissionError: the system refuses.
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        # This system has no such call, or refuses it. The pid of a child that its parent has not reaped is its own; any
        # other process ran a moment ago, and the kernel hands out all other pids before it reuses one.
        if has_ended(pidfd):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        os.kill(pid, number)


def signal_group(pidfd: int, pid: int, number: int) -> None:
    """Signal the process group of a leader that is not a child of this process, and no later group with its number.

    Raises:
        ProcessLookupError: the leader has ended.
        PermissionError: the system refuses.
    """
    if has_ended(pidfd):
        raise ProcessLookupError
    try:
        signal.pidfd_send_signal(pidfd, number, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        # Linux < 6.9, or a system that refuses the call. As in `signal_process`.
        os.killpg(pid, number)

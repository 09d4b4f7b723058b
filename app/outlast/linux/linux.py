"""What only Linux has, each behind one function with its fallback beside it."""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys

_PR_SET_CHILD_SUBREAPER = 36
_PIPE_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 << 20
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
# struct pidfd_info of linux/pidfd.h, as far as its first version went: mask, cgroup, eleven ids, exit_code
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process, so that they can be found and reaped.

    Returns False where the system has no such thing: orphans then go to init.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def say(sentence: str) -> None:
    """Write to the log. A full disk must not end the shim."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def keep_freed_memory() -> None:
    """Let the allocator keep what a flood's blocks take, instead of giving it back and faulting it in for each block.

    Where the C library has no mallopt, it costs some speed and nothing else.
    """
    with contextlib.suppress(AttributeError):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def release_pages(fd: int, start: int, size: int) -> None:
    """Give the memory of a part of a file back; its size stays. Where that can't be done, it goes when it is closed."""
    with contextlib.suppress(AttributeError):
        _LIBC.fallocate(
            ctypes.c_int(fd),
            ctypes.c_int(_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE),
            ctypes.c_long(start),
            ctypes.c_long(size),
        )


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


def has_ended(pidfd: int) -> bool:
    """Tell whether the process has ended, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def all_pids() -> list[int]:
    """Return the pid of every process of the machine that this one may see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_fields(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat behind the name, from the state on. None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            raw = file.read()
    except OSError:
        return None
    return raw[raw.rindex(b")") + 2 :].split()


def exit_status(pidfd: int, pid: int) -> int | None:
    """Return the wait status of a process that has ended and is not our child; None: the kernel does not tell (yet).

    Once it is reaped, its pidfd tells (PIDFD_GET_INFO, Linux 6.15). Until then, while it is a zombie, /proc does,
    though not of every user's.
    """
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *(0,) * 13))
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, *_, status = _PIDFD_INFO.unpack(info)
        if mask & _PIDFD_INFO_EXIT:
            return int(status)
    fields = stat_fields(pid)
    try:
        if fields is None or not _may_look_into(pid):
            return None
        signal.pidfd_send_signal(pidfd, 0)  # it is not reaped, so what was read is of no later process with its pid
    except OSError:
        return None
    return int(fields[49]) if fields[0] == b"Z" else None


def _may_look_into(pid: int) -> bool:
    """Tell whether the kernel shows us all of a process: else (it may be a setuid program's) its exit code reads 0."""
    if os.geteuid() == 0:
        return True
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        ids = {words[0]: set(words[1:4]) for words in map(str.split, file) if words and words[0] in {"Uid:", "Gid:"}}
    return ids == {"Uid:": {str(os.geteuid())}, "Gid:": {str(os.getegid())}}


def signal_process(pidfd: int, number: int) -> None:
    """Signal one process and no later one with its pid.

    Raises:
        ProcessLookupError: it has ended.
        PermissionError: the system refuses.
    """
    signal.pidfd_send_signal(pidfd, number)


def signal_group(pidfd: int, pid: int, number: int) -> None:
    """Signal the process group that a process leads which is not our child, and no later group of that number.

    Raises:
        ProcessLookupError: it has ended.
        PermissionError: the system refuses.
    """
    if has_ended(pidfd):
        raise ProcessLookupError
    try:
        signal.pidfd_send_signal(pidfd, number, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        os.killpg(pid, number)  # Linux < 6.9; it had not ended a moment ago, and pids come round after all others

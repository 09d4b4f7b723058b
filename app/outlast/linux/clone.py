"""Forking a child of this process's parent, directly into a cgroup.

Every process that is started begins as a copy of this module's importer: it imports next to nothing.
"""

import ctypes
import os
import struct

_SYS_CLONE3 = 435  # on every architecture
_CLONE_ARGS = struct.Struct("=11Q")  # struct clone_args of linux/sched.h as of Linux 5.7
_CLONE_PARENT, _CLONE_INTO_CGROUP = 0x8000, 0x200000000
# PyDLL keeps the interpreter's lock during the call: the new process has no other thread that could return it.
_LIBC = ctypes.PyDLL(None, use_errno=True)


def fork_sibling(group: str | None) -> tuple[int, bool]:
    """Fork a child of this process's parent, in cgroup `group` if one is given and the kernel allows that.

    The fork handlers of Python and of the C library do not run: this process must have one thread only, and the new
    process must exec soon.

    Returns:
        The pid, or 0 in the new process; and whether the new process is in `group`.

    Raises:
        OSError: the kernel has no such call, or not enough memory now.
    """
    if group is not None:
        try:
            folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return _clone(_CLONE_PARENT | _CLONE_INTO_CGROUP, folder), True
            finally:
                os.close(folder)
        except OSError:
            pass  # Linux < 5.7, or the cgroup takes no processes: `join_cgroup` later tells which
    return _clone(_CLONE_PARENT), False


def join_cgroup(group: str) -> None:
    """Move the calling process into a cgroup.

    Raises:
        OSError: the cgroup takes no processes, or not this one.
    """
    fd = os.open(group + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _clone(flags: int, folder: int = 0) -> int:
    arguments = ctypes.create_string_buffer(_CLONE_ARGS.pack(flags, *(0,) * 9, folder), _CLONE_ARGS.size)
    pid = int(_LIBC.syscall(_SYS_CLONE3, arguments, ctypes.c_size_t(_CLONE_ARGS.size)))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid

"""Forking a process that is somebody else's child, into its cgroup at once: only Linux has it.

Nothing unneeded is imported here: see `forker.py`.
"""

import ctypes
import os
import struct

_SYS_CLONE3 = 435  # on every architecture
# struct clone_args of linux/sched.h, as far as its version of Linux 5.7 went
_CLONE_ARGS = struct.Struct("=11Q")
_CLONE_PARENT, _CLONE_INTO_CGROUP = 0x8000, 0x200000000
# The lock of the interpreter stays taken: in the new process there would be nobody to give it back to.
_LIBC = ctypes.PyDLL(None, use_errno=True)


def fork_sibling(group: str | None) -> tuple[int, bool]:
    """Fork a child of this process's parent, in a cgroup if one is given and that can be done.

    Nothing is done of what Python and the C library do at a fork: this process must have one thread only, and the new
    one become a program soon.

    Returns:
        The pid, or 0 in the new process; and whether that is in `group`.

    Raises:
        OSError: the system can't, or has no room now.
    """
    if group is not None:
        try:
            folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return _clone(_CLONE_PARENT | _CLONE_INTO_CGROUP, folder), True
            finally:
                os.close(folder)
        except OSError:
            pass  # Linux < 5.7, or it may not live there: whoever joins it later says which
    return _clone(_CLONE_PARENT), False


def join(group: str) -> None:
    """Move the calling process into a cgroup.

    Raises:
        OSError: it may not.
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

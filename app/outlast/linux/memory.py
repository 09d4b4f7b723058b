"""Memory that the C library and the kernel keep for this process: freed blocks, pages of files, pipe buffers."""

import contextlib
import ctypes
import fcntl
from collections.abc import Container

_PIPE_BYTES = 1 << 20
_USUAL_PIPE_BYTES = 64 << 10
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 << 20
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_MADV_PAGEOUT = 21
_LIBC = ctypes.CDLL(None, use_errno=True)


def keep_freed_memory() -> None:
    """Make the allocator keep freed blocks of up to 16 MiB, so that a flood does not fault in new pages for each block.

    Where the C library has no mallopt, floods are somewhat slower.
    """
    with contextlib.suppress(AttributeError):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def release_pages(fd: int, start: int, size: int) -> bool:
    """Free the pages of a part of a file; the file's size stays. False: the system refuses, or the file cannot."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    return not _LIBC.fallocate(ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_long(start), ctypes.c_long(size))


def page_out_programs(folder_names: Container[str]) -> None:
    """Give back the memory of what libraries only read: the kernel reads it from their files again when it is used.

    Linux < 5.4 keeps that memory.

    Args:
        folder_names: names of folders; a library in or below one of them is meant.
    """
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            addresses, access, *_, path = line.split(maxsplit=5)
            if "w" not in access and any(name in folder_names for name in path.split("/")):
                start, end = (int(number, 16) for number in addresses.split("-"))
                with contextlib.suppress(AttributeError):
                    _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(_MADV_PAGEOUT))


def widen_pipe(fd: int) -> None:
    """Ask for a pipe buffer of 1 MiB: fewer, larger reads in a flood. If the user's quota refuses, nothing changes."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def pipe_capacity(fd: int) -> int:
    """Return how many bytes a pipe holds; where the system does not tell, how many a pipe usually holds."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _USUAL_PIPE_BYTES

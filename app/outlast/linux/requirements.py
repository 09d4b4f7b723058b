"""System calls without which Outlast cannot work, tried once before anything is started.

All others have a substitute where they are used.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import socket
import threading
from collections.abc import Callable

from outlast.linux.refused import is_refused
from outlast.linux.unix_socket import peer_uid

_SYS_IO_URING_SETUP, _SYS_IO_URING_ENTER = 425, 426  # on every architecture
_LIBC = ctypes.CDLL(None, use_errno=True)


def _make_memory_file() -> int:
    return os.memfd_create("outlast-probe", os.MFD_CLOEXEC)


def _lock() -> None:
    fd = _make_memory_file()
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def _wait() -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _know_the_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer_uid(ours)


def _set_a_limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))


def _start_a_thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def _enter_io_uring() -> None:
    """Try what libuv aborts the whole process for: `io_uring_enter` where `io_uring_setup` is permitted."""
    for call in (_SYS_IO_URING_SETUP, _SYS_IO_URING_ENTER):
        _LIBC.syscall(call, -1, None, None, None, None, None)  # permitted calls refuse the arguments
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if is_refused(error):
            if call == _SYS_IO_URING_SETUP:
                return
            raise error


_PERMIT = "permit the call in the seccomp profile of the container or service, or run on a newer kernel"
_NEEDED: tuple[tuple[str, Callable[[], object], str], ...] = (
    ("memfd_create(2)", lambda: os.close(_make_memory_file()), _PERMIT),
    ("epoll_create1(2)", lambda: select.epoll().close(), _PERMIT),
    ("eventfd(2)", lambda: os.close(os.eventfd(0, os.EFD_CLOEXEC)), _PERMIT),
    ("waitid(2)", _wait, _PERMIT),
    ("prlimit(2)", _set_a_limit, _PERMIT),
    ("fcntl(2) with F_SETLK", _lock, _PERMIT),
    ("getsockopt(2) with SO_PEERCRED", _know_the_peer, _PERMIT),
    ("io_uring_enter(2)", _enter_io_uring, "the seccomp profile must refuse io_uring_setup(2) as well, or neither"),
    ("starting a thread", _start_a_thread, "the seccomp profile must refuse clone3(2) with ENOSYS, or not at all"),
)


def find_problem() -> str | None:
    """Return a sentence that names a call without which Outlast cannot work, and which fails; None: all succeed."""
    for call, exercise, advice in _NEEDED:
        try:
            exercise()
        # RuntimeError: no thread can be started. AttributeError: this interpreter was built without the call.
        except (OSError, RuntimeError, AttributeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            return f"Outlast cannot work on this system: {call} fails ({reason}); {advice}"
    return None

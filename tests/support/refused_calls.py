"""System calls that the kernel refuses, as sandboxes and old kernels do: a seccomp filter around a program.

`python refused_calls.py ERRNO CALL,CALL... PROGRAM ARG...` refuses calls with an error, and runs a program.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple


class Call(NamedTuple):
    """A system call by its numbers on x86-64 and ARM64; with `argument`, only where that argument has that value."""

    x86_64: int
    aarch64: int
    argument: tuple[int, int] | None = None


CALLS = {
    "splice": Call(275, 76),
    "memfd_create": Call(319, 279),
    "pidfd_open": Call(434, 434),
    "pidfd_send_signal": Call(424, 424),
    "close_range": Call(436, 436),
    "clone3": Call(435, 435),
    "fallocate": Call(285, 47),
    "F_SETPIPE_SZ": Call(72, 25, (1, 1031)),
    "F_GETPIPE_SZ": Call(72, 25, (1, 1032)),
    "F_SETLK": Call(72, 25, (1, 6)),
    "PR_SET_CHILD_SUBREAPER": Call(157, 167, (0, 36)),
    "io_uring_setup": Call(425, 425),
    "io_uring_enter": Call(426, 426),
    "getxattr": Call(191, 8),
    "fchown": Call(93, 55),
    "SO_PEERCRED": Call(55, 209, (2, 17)),
    "eventfd2": Call(290, 19),
    "epoll_create1": Call(291, 20),
    "waitid": Call(247, 95),
    "prlimit64": Call(302, 261),
}

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data; of an argument, the lower half counts.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16


def _instruction(code: int, value: int, if_not: int = 0) -> bytes:
    """Return a struct sock_filter; `if_not` is how many instructions to pass over where a comparison fails."""
    return struct.pack("HBBI", code, 0, if_not, value)


def _program(calls: list[Call], number: int) -> bytes:
    """Return the filter: each call is compared with each of `calls`, and refused with errno `number` if it is one."""
    machine = platform.machine()
    program = [_instruction(_LOAD, _ARCH), _instruction(_IF_EQUAL, _AUDIT_ARCH[machine])]
    for call in calls:
        index, value = call.argument or (0, 0)
        compare_argument = [_instruction(_LOAD, _ARGUMENTS + 8 * index), _instruction(_IF_EQUAL, value, if_not=1)]
        then = [*(compare_argument if call.argument else []), _instruction(_RETURN, _REFUSE | number)]
        program.append(_instruction(_LOAD, _NUMBER))
        program.append(_instruction(_IF_EQUAL, getattr(call, machine), if_not=len(then)))
        program.extend(then)
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def refuse(names: list[str], number: int) -> None:
    """Let the kernel refuse calls to this process and its descendants, with errno `number`."""
    program = _program([CALLS[name] for name in names], number)
    buffer = ctypes.create_string_buffer(program, len(program))
    descriptor = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
        _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), descriptor, zero, zero
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse(sys.argv[2].split(","), getattr(errno, sys.argv[1]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is the point

"""Exit statuses of processes that are not our children."""

import os

import pytest

from outlast.linux.process import exit_status, has_ended, pidfd_open


def _fork(real_user: int) -> int:
    """Start a process of a real user that exits with 7 at once. Root sees all of it, other users do not."""
    pid = os.fork()
    if pid == 0:
        os.setresuid(real_user, 0, 0)
        os._exit(7)
    return pid


def _seen_by(user: int, pidfd: int, pid: int) -> bytes:
    reader, writer = os.pipe()
    looker = os.fork()
    if looker == 0:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.write(writer, repr(exit_status(pidfd, pid)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        seen = answer.read()
    os.waitpid(looker, 0)
    return seen


@pytest.mark.skipif(os.geteuid() != 0, reason="needs processes of two users")
def test_the_exit_code_of_a_zombie_that_the_kernel_hides_is_not_read_as_0() -> None:
    pid = _fork(4242)
    pidfd = pidfd_open(pid)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        assert has_ended(pidfd)
        assert _seen_by(4242, pidfd, pid) == b"None"
        assert exit_status(pidfd, pid) == 7 << 8
    finally:
        os.waitpid(pid, 0)
        os.close(pidfd)

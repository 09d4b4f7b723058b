"""File descriptors that come over a unix socket with messages (SCM_RIGHTS)."""

import array
import os
import socket
from collections import deque
from collections.abc import Sequence

MAX_FDS = 253
"""Maximum number of descriptors that Linux lets go with one message (SCM_MAX_FD)."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
# As plain numbers: an operation with an enum costs as much as the system call, and this is called for each line.
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)


class ReceivedFds:
    """Descriptors that have come with messages that are still to be read: those of one message together, in order."""

    def __init__(self) -> None:
        self._waiting: deque[list[int]] = deque()

    def receive(self, sock: socket.socket, space: memoryview) -> int:
        """Read once from a socket, and return the number of bytes that came (0: the other end has closed it).

        One read never brings descriptors of two messages. If this process reaches its limit on open files, some of
        a message's descriptors are missing, or all; `take_fds` tells.

        Raises:
            BlockingIOError: nothing has come.
        """
        count, ancillary, flags, _address = sock.recvmsg_into([space], _ANCILLARY_BYTES, _CLOEXEC)
        if ancillary or flags & _TRUNCATED:
            self._note(ancillary, is_truncated=bool(flags & _TRUNCATED))
        return count

    def _note(self, ancillary: Sequence[tuple[int, int, bytes]], *, is_truncated: bool) -> None:
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if fds or is_truncated:
            self._waiting.append(fds.tolist())

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors of the message that was just read. They belong to the caller.

        Raises:
            ConnectionResetError: some are missing: this process has reached its limit on open files.
        """
        fds = self._waiting.popleft() if count and self._waiting else []
        if len(fds) != count:
            close_all(fds)
            raise ConnectionResetError(
                f"only {len(fds)} of {count} descriptors arrived: raise the limit on open files (ulimit -n)"
            )
        return fds

    def close(self) -> None:
        """Close the descriptors that were not taken."""
        for fds in self._waiting:
            close_all(fds)
        self._waiting.clear()


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)

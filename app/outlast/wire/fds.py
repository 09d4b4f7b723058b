"""File descriptors that come over a unix socket with messages (SCM_RIGHTS)."""

import array
import os
import socket
from collections import deque
from collections.abc import Sequence

MAX_FDS = 253  # SCM_MAX_FD of Linux: so many go with one message at most


class ReceivedFds:
    """Descriptors whose messages are still to be read: those of each message together, in order."""

    def __init__(self) -> None:
        self._waiting: deque[list[int]] = deque()

    def receive(self, sock: socket.socket, space: memoryview) -> int:
        """Read once, and return how many bytes came (0: the other end is gone).

        Descriptors of two messages never come at once. Of those that this process may not open, none or only some
        come.

        Raises:
            BlockingIOError: there is nothing now.
        """
        room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        count, ancillary, flags, _address = sock.recvmsg_into([space], room, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if fds or flags & socket.MSG_CTRUNC:
            self._waiting.append(fds.tolist())
        return count

    def take(self, count: int) -> list[int]:
        """Return the descriptors that came with the message just received. They belong to the caller.

        Raises:
            ConnectionResetError: they are not all there: this process may not have so many open files.
        """
        fds = self._waiting.popleft() if count and self._waiting else []
        if len(fds) != count:
            close_all(fds)
            raise ConnectionResetError(
                f"of {count} descriptors {len(fds)} came: raise the limit on open files (ulimit -n)"
            )
        return fds

    def close(self) -> None:
        """Close what nobody has taken."""
        for fds in self._waiting:
            close_all(fds)
        self._waiting.clear()


def close_all(fds: Sequence[int]) -> None:
    """Close each of them."""
    for fd in fds:
        os.close(fd)

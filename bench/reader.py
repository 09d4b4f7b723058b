"""Readers over plain sockets that only count what they read, so that the daemon is measured and not the client."""

import select
import socket
import time
from collections.abc import Mapping, Sequence

_BUFFER_BYTES = 1 << 20
_END_BYTES = 256
_SILENT_S = 60.0


class Reader:
    """An HTTP connection that is read to its end.

    Attributes:
        count: number of `mark`s read. A mark is two bytes that occur nowhere else, in either order.
        bytes: bytes read, HTTP framing included.
        end: the last bytes.
        ended: whether the connection has ended.
    """

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        headers: Mapping[str, str],
        mark: bytes | None,
        buffer_bytes: int | None = None,
    ) -> None:
        """Connect and send the request. `buffer_bytes`: size of the receive buffer; None leaves it to the kernel."""
        self.count = self.bytes = 0
        self.end = b""
        self.ended = False
        self._mark = mark
        self.sock = socket.socket()
        self.sock.settimeout(_SILENT_S)
        if buffer_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.sock.connect(address)
        lines = [f"GET {path} HTTP/1.1", f"Host: {address[0]}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def read(self, buffer: bytearray) -> None:
        """Read once, into `buffer`, which readers may share."""
        size = self.sock.recv_into(buffer)
        if size == 0:
            self.ended = True
            return
        self.bytes += size
        if self._mark is not None:
            self.count += buffer.count(self._mark, 0, size)
            self.count += self.end[-1:] + buffer[:1] == self._mark
        self.end = (self.end + buffer[max(0, size - _END_BYTES) : size])[-_END_BYTES:]

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


def read_all(reader: Reader) -> float:
    """Read to the end, and return the seconds that it took."""
    began = time.monotonic()
    buffer = bytearray(_BUFFER_BYTES)
    while not reader.ended:
        reader.read(buffer)
    reader.close()
    return time.monotonic() - began


def read_each(readers: Sequence[Reader]) -> None:
    """Read all connections to their ends, each as soon as it has data.

    Raises:
        RuntimeError: no data came for a minute.
    """
    buffer = bytearray(_BUFFER_BYTES)
    by_fd = {reader.sock.fileno(): reader for reader in readers}
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        left = len(by_fd)
        while left:
            ready = poll.poll(_SILENT_S)
            if not ready:
                raise RuntimeError(f"nothing has come for {_SILENT_S:.0f} s, and {left} streams have not ended")
            for fd, _ in ready:
                by_fd[fd].read(buffer)
                if by_fd[fd].ended:
                    poll.unregister(fd)
                    left -= 1

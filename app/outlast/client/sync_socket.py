"""A blocking websocket to a daemon. Its frames are made and read by `outlast.client.frames`."""

import contextlib
import select
import socket
import threading
from collections.abc import Mapping

from outlast.client.errors import Disconnected
from outlast.client.http1 import Connection

Lock = threading.Lock

_READ_BYTES = 1 << 18


class Socket:
    """A connection that was asked to become a websocket. One thread may read while others write.

    Attributes:
        status: status of the answer.
        headers: headers of the answer.
        body: body of the answer, if it was refused.
    """

    def __init__(
        self, connection: Connection, status: int, headers: Mapping[str, str], body: bytes, silent_s: float | None
    ) -> None:
        """`silent_s`: time without a byte after which the connection counts as broken."""
        self.status = status
        self.headers = headers
        self.body = body
        self._silent_s = silent_s
        self._first, self._socket = connection.detach()

    def send(self, data: bytes) -> None:
        """Send bytes. Waits for as long as the daemon does not take them.

        Raises:
            Disconnected: the connection broke.
        """
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise Disconnected(f"the connection to the daemon broke: {exc}", sent=True) from exc

    def receive(self) -> bytes:
        """Return the bytes that come next.

        Raises:
            Disconnected: the connection broke, or was silent for too long.
        """
        data, self._first = self._first, b""
        if data:
            return data
        try:
            self._wait()
            data = self._socket.recv(_READ_BYTES)
        except OSError as exc:
            raise Disconnected(f"the connection to the daemon broke: {exc}", sent=True) from exc
        if not data:
            raise Disconnected("the daemon closed the connection", sent=True)
        return data

    def _wait(self) -> None:
        if getattr(self._socket, "pending", int)():  # TLS has decrypted more than was read
            return
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(None if self._silent_s is None else self._silent_s * 1000):
            raise TimeoutError("it is silent")

    def close(self) -> None:
        """End the connection, also for the thread that reads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

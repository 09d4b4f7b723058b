"""Accepting connections: a few in each turn of the event loop, so that they do not use up descriptors unseen.

The event loop's own servers accept all that wait at once, and close what they have no descriptor for.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

_ACCEPTS_PER_TURN = 16
_RETRY_S = 0.1


class Acceptor:
    """A listening socket, whose connections get a protocol each."""

    def __init__(
        self, sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol], on_failure: Callable[[str], None]
    ) -> None:
        """Accept from now on.

        Args:
            sock: the socket. It belongs to the acceptor.
            make_protocol: makes the protocol of a connection.
            on_failure: called with the reason when nothing can be accepted now.
        """
        sock.setblocking(False)
        self._sock = sock
        self._make_protocol = make_protocol
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Stop accepting."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:  # no descriptor or no memory is free: connections wait in the kernel
                self._on_failure(f"for a moment: {exc.strerror}")
                self._loop.remove_reader(self._sock)
                self._retry = self._loop.call_later(_RETRY_S, self._listen)
                return
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            await self._loop.connect_accepted_socket(self._make_protocol, connection)

"""A unix socket on the event loop that carries bytes and file descriptors, which asyncio's transports do not."""

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from outlast.failpoints import failpoint
from outlast.wire.codec import Decoder, MessageType, WireError
from outlast.wire.fds import ReceivedFds, close_all

_RECEIVE_BYTES = 256 << 10
# Of one wake-up: then other tasks have their turn.
_READS_A_TURN = 16


class Channel:
    """Calls `on_message` with each message that comes, and `on_lost` once when the socket is of no more use.

    Neither is called before the next turn of the event loop, nor after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[MessageType, memoryview], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._received = ReceivedFds()
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._marks: dict[int, bytes] = {}
        self.is_open = True
        self._loop.add_reader(sock, self._on_readable)

    def write(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message and duplicates of descriptors, now or when the socket takes it."""
        if not self.is_open:
            return
        was_idle = not self._unsent
        self._unsent.append((memoryview(message), [os.dup(fd) for fd in fds]))
        if was_idle:
            self._flush()

    def mark(self, slot: int, message: bytes) -> None:
        """Send an ACK in the next turn of the event loop, with those of other slots, and without those it overtakes."""
        if not self._marks:
            self._loop.call_soon(self._send_marks)
        self._marks[slot] = message

    def _send_marks(self) -> None:
        marks, self._marks = self._marks, {}
        self.write(b"".join(marks.values()))
        failpoint("after-ack")

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors that came with the message just received; see `ReceivedFds.take`."""
        return self._received.take(count)

    def close(self) -> None:
        """Say nothing more, and hear nothing more."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, fds in self._unsent:
            close_all(fds)
        self._unsent.clear()
        self._received.close()

    def abort(self, why: Exception) -> None:
        """Give the socket up; `on_lost` is called soon."""
        if self.is_open:
            self.close()
            self._loop.call_soon(self._on_lost, why)

    def _on_readable(self) -> None:
        for _ in range(_READS_A_TURN):
            if not self.is_open:
                return
            space = self._decoder.space()
            try:
                count = self._received.receive(self._sock, space)
            except BlockingIOError:
                return
            except OSError as exc:
                self.abort(exc)
                return
            if count == 0:
                self.abort(ConnectionResetError("the other end has closed the socket"))
                return
            self._decoder.filled(count)
            self._handle()
            if count < len(space):
                return  # that was all; if it was not, we are called again

    def _handle(self) -> None:
        try:
            for kind, payload in self._decoder.messages():
                self._on_message(kind, payload)
                if not self.is_open:
                    return
        except (WireError, OSError) as exc:
            self.abort(exc)

    def _flush(self) -> None:
        try:
            while self._unsent:
                message, fds = self._unsent[0]
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                sent = self._sock.sendmsg([message], rights)
                close_all(fds)
                if sent == len(message):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = (message[sent:], ())
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._flush)
            return
        except OSError as exc:
            self.abort(exc)
            return
        with contextlib.suppress(ValueError):
            self._loop.remove_writer(self._sock)

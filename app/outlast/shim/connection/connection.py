"""The socket to one daemon: what has come, and what waits to be sent."""

import array
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from outlast.shim.state.child import Child
from outlast.wire.codec import Decoder, MessageType, encode_output
from outlast.wire.contract import FRAME_OVERHEAD_BYTES, WINDOW_BYTES
from outlast.wire.fds import ReceivedFds

TOTAL_WINDOW_BYTES = 32 << 20
"""Maximum bytes of output of all processes that are sent and not acknowledged."""
_RECEIVE_BYTES = 256 << 10
_SEND_BATCH_BYTES = 64 << 10
_SOCKET_BUFFER_BYTES = 4 << 20


class MessageWithFds(NamedTuple):
    """A message and the descriptors that go with it, which stay open."""

    message: bytes
    fds: Sequence[int]


class Connection:
    """One accepted socket. Replies go first; output follows, one frame of each process in turn.

    Output that is sent and not acknowledged is limited for each process (`WINDOW_BYTES`) and in all
    (`TOTAL_WINDOW_BYTES`): that limits what the daemon has to hold.

    Attributes:
        broken: whether nothing can be sent any more. Messages that the daemon has sent may still be there to be read.
        peer: identity of the process that greeted as the daemon (`outlast.linux.proc.identify`); None: not known.
        is_crowded: whether the kernel lets no more descriptors be on their way, until some have been read somewhere.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        self.sock = sock
        self.wants_write = False
        self.closed = False
        self.broken = False
        self.is_crowded = False
        self.peer: list[int] | None = None
        self.in_flight_bytes = 0
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._received = ReceivedFds()
        self._control: deque[bytes | Callable[[], MessageWithFds]] = deque()
        self._ready: deque[Child] = deque()
        self._ready_slots: set[int] = set()
        self._sending = memoryview(b"")

    def receive(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Read once and yield the complete messages.

        Raises:
            ConnectionError: the daemon has closed the connection.
            WireError: the daemon sent bytes that are not a message.
        """
        try:
            count = self._received.receive(self.sock, self._decoder.space())
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionResetError("the daemon has closed the connection")
        self._decoder.filled(count)
        yield from self._decoder.messages()

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors of the message that was just read; see `ReceivedFds.take_fds`."""
        return self._received.take_fds(count)

    def send(self, message: bytes) -> None:
        """Send a reply or an event, now or later."""
        if not self.closed:
            self._control.append(message)

    def send_described(self, describe: Callable[[], MessageWithFds]) -> None:
        """Send a message with descriptors, now or later. `describe` makes it at that moment, and perhaps repeatedly.

        So nothing is kept open for a daemon that reads slowly.
        """
        if not self.closed:
            self._control.append(describe)

    def send_now(self, message: bytes, fds: Sequence[int]) -> bool:
        """Send an event with duplicates of descriptors. False: the socket does not take it now, and nothing is sent."""
        if self.closed or self._sending or self._control:
            return False
        try:
            self._send_with_fds(message, fds)
        except OSError:  # `flush` finds out whether the socket is broken
            return False
        return True

    def offer_output(self, child: Child) -> None:
        """Send frames of a process in its turn, if it has any."""
        if child.attached and child.unsent and child.slot not in self._ready_slots:
            self._ready_slots.add(child.slot)
            self._ready.append(child)

    def flush(self) -> bool:
        """Send as much as the socket takes.

        Returns:
            Whether more waits for the socket (and not for an acknowledgement, nor because it `is_crowded`).

        Raises:
            OSError: the daemon has gone.
        """
        self.is_crowded = False
        try:
            while True:
                if self._sending:
                    self._sending = self._sending[self.sock.send(self._sending) :]
                elif self._control and not isinstance(first := self._control[0], bytes):
                    self._send_with_fds(*first())
                    self._control.popleft()
                elif not self._gather():
                    return False
        except BlockingIOError:
            return True
        except OSError as exc:
            if exc.errno == errno.ETOOMANYREFS:
                self.is_crowded = True
                return False
            raise

    def _send_with_fds(self, message: bytes, fds: Sequence[int]) -> None:
        sent = self.sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        self._sending = memoryview(message)[sent:]

    def _gather(self) -> bool:
        parts: list[bytes] = []
        size = 0
        while self._control and size < _SEND_BATCH_BYTES:
            message = self._control[0]
            if not isinstance(message, bytes):
                break
            self._control.popleft()
            parts.append(message)
            size += len(message)
        if not self._control:
            while self._ready and size < _SEND_BATCH_BYTES and self.in_flight_bytes < TOTAL_WINDOW_BYTES:
                size += self._gather_frame(parts, self._ready.popleft())
        self._sending = memoryview(b"".join(parts))
        return bool(parts)

    def _gather_frame(self, parts: list[bytes], child: Child) -> int:
        self._ready_slots.discard(child.slot)
        if child.in_flight_bytes >= WINDOW_BYTES:
            return 0  # the next acknowledgement offers its output again
        frame = child.next_frame()
        if frame is None:
            return 0
        parts.append(encode_output(child.slot, frame.stream, frame.ts_ms, frame.offset, frame.size))
        self.in_flight_bytes += frame.size + FRAME_OVERHEAD_BYTES if frame.size else 0
        self.offer_output(child)
        return len(parts[-1])

    def close(self) -> None:
        """Close the socket, and all descriptors that have come."""
        if self.closed:
            return
        self.closed = True
        self.sock.close()
        self._received.close()
        self._control.clear()

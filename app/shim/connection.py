"""The socket to one daemon: what is received, and what waits to be sent."""

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.shim.child import FRAME_OVERHEAD_BYTES, Child
from app.shim.wire import Decoder, MessageType, encode_output

_RECEIVE_BYTES = 256 << 10
_SEND_BATCH_BYTES = 64 << 10
_SOCKET_BUFFER_BYTES = 4 << 20
MAX_FDS = 253  # SCM_MAX_FD of Linux: so many go with one message at most
WINDOW_BYTES = 8 << 20
TOTAL_WINDOW_BYTES = 32 << 20


@dataclass(slots=True)
class _WithFds:
    """A message that descriptors go with, and who is told when the socket has taken both."""

    message: bytes
    fds: Sequence[int]
    on_sent: Callable[[], None] | None


class Connection:
    """One accepted socket. Replies go first; output follows, a frame from each process in turn.

    `broken`: nothing can be sent any more; what the other end has said may still be there to be read.

    Output that is sent and not acknowledged is bounded a process (`WINDOW_BYTES`) and in all
    (`TOTAL_WINDOW_BYTES`), which bounds what the daemon can be made to hold.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        self.sock = sock
        self.wants_write = False
        self.closed = False
        self.broken = False
        self.in_flight_bytes = 0
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._received: deque[list[int]] = deque()
        self._control: deque[bytes | _WithFds] = deque()
        self._ready: deque[Child] = deque()
        self._ready_slots: set[int] = set()
        self._sending = memoryview(b"")

    def receive(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Read once and yield the messages that are complete.

        Raises:
            ConnectionError: the daemon has gone.
            WireError: what it sent is no message.
        """
        try:
            count, fds = receive_with_fds(self.sock, self._decoder.space())
        except BlockingIOError:
            return
        if fds is not None:
            self._received.append(fds)
        if count == 0:
            raise ConnectionResetError("the daemon has closed the connection")
        self._decoder.filled(count)
        yield from self._decoder.messages()

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors that came with the message just received.

        Raises:
            ConnectionError: they are not all there: this process may not have so many open files.
        """
        fds = self._received.popleft() if count and self._received else []
        if len(fds) != count:
            _close_all(fds)
            raise ConnectionResetError(f"of {count} descriptors {len(fds)} came: the limit on open files is too low")
        return fds

    def send(self, message: bytes, fds: Sequence[int] = (), on_sent: Callable[[], None] | None = None) -> None:
        """Send a reply or an event, now or later. `on_sent` is called when message and descriptors are sent.

        Raises:
            OSError: there are too many open files to keep descriptors for later.
        """
        if self.closed:
            return
        if not fds:
            self._control.append(message)
        elif self._sending or self._control or not self._send_now(message, fds, on_sent):
            self._control.append(_WithFds(message, [os.dup(fd) for fd in fds], on_sent))

    def _send_now(self, message: bytes, fds: Sequence[int], on_sent: Callable[[], None] | None) -> bool:
        try:
            self._send_with_fds(_WithFds(message, fds, on_sent))
        except OSError:  # `flush` finds out whether it is for good
            return False
        return True

    def offer(self, child: Child) -> None:
        """Say that `child` may have frames to send."""
        if child.attached and child.unsent and child.slot not in self._ready_slots:
            self._ready_slots.add(child.slot)
            self._ready.append(child)

    def flush(self) -> bool:
        """Send what the socket takes.

        Returns:
            Whether more waits for the socket (and not for an acknowledgement).

        Raises:
            ConnectionError: the daemon has gone.
        """
        try:
            while True:
                if self._sending:
                    self._sending = self._sending[self.sock.send(self._sending) :]
                elif self._control and isinstance(first := self._control[0], _WithFds):
                    self._send_with_fds(first)
                    _close_all(first.fds)
                    self._control.popleft()
                elif not self._gather():
                    return False
        except BlockingIOError:
            return True
        except OSError as exc:
            if exc.errno == errno.ETOOMANYREFS:  # descriptors on their way are counted: the daemon must take some first
                return True
            raise

    def _send_with_fds(self, entry: _WithFds) -> None:
        sent = self.sock.sendmsg([entry.message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", entry.fds))])
        self._sending = memoryview(entry.message)[sent:]
        if entry.on_sent is not None:
            entry.on_sent()

    def _gather(self) -> bool:
        parts: list[bytes] = []
        size = 0
        while self._control and size < _SEND_BATCH_BYTES:
            message = self._control[0]
            if isinstance(message, _WithFds):
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
            return 0  # its next acknowledgement offers it again
        frame = child.next_frame()
        if frame is None:
            return 0
        parts.append(encode_output(child.slot, frame.stream, frame.ts_ms, frame.offset, frame.size))
        self.in_flight_bytes += frame.size + FRAME_OVERHEAD_BYTES if frame.size else 0
        self.offer(child)
        return len(parts[-1])

    def close(self) -> None:
        """Close the socket. Whoever waits for a message to be sent is told, for it never will be."""
        if self.closed:
            return
        self.closed = True
        self.sock.close()
        for fds in self._received:
            _close_all(fds)
        waiting, self._control = self._control, deque()
        for entry in waiting:
            if isinstance(entry, _WithFds):
                _close_all(entry.fds)
                if entry.on_sent is not None:
                    entry.on_sent()


def receive_with_fds(sock: socket.socket, space: memoryview) -> tuple[int, list[int] | None]:
    """Read once; return how many bytes came (0: the other end is gone), and the descriptors that came with a message.

    Those of two messages never come at once. Of those that this process may not open, none or only some come.

    Raises:
        BlockingIOError: there is nothing now.
    """
    room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    count, ancillary, flags, _address = sock.recvmsg_into([space], room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return count, fds.tolist() if fds or flags & socket.MSG_CTRUNC else None


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

"""The socket to one daemon: what is received, and what waits to be sent."""

import socket
from collections import deque
from collections.abc import Iterator

from app.shim.child import Child, Frame
from app.shim.wire import Decoder, MessageType, output_header

_RECEIVE_BYTES = 256 << 10
_SEND_BATCH_BYTES = 512 << 10
_SEND_BATCH_BUFFERS = 64
_SOCKET_BUFFER_BYTES = 4 << 20
WINDOW_BYTES = 8 << 20
TOTAL_WINDOW_BYTES = 32 << 20


class Connection:
    """One accepted socket. Replies go first; output follows, a frame from each process in turn.

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
        self.in_flight_bytes = 0
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._control: deque[bytes] = deque()
        self._ready: deque[Child] = deque()
        self._ready_slots: set[int] = set()
        self._sending: deque[memoryview] = deque()

    def receive(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Read once and yield the messages that are complete.

        Raises:
            ConnectionError: the daemon has gone.
            WireError: what it sent is no message.
        """
        try:
            count = self.sock.recv_into(self._decoder.space())
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionResetError("the daemon has closed the connection")
        self._decoder.filled(count)
        yield from self._decoder.messages()

    def send(self, message: bytes) -> None:
        """Queue a reply or an event."""
        if not self.closed:
            self._control.append(message)

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
        while self._sending or self._gather():
            buffers = [self._sending[i] for i in range(min(len(self._sending), _SEND_BATCH_BUFFERS))]
            try:
                sent = self.sock.sendmsg(buffers)
            except BlockingIOError:
                return True
            while sent:
                head = self._sending[0]
                if sent < len(head):
                    self._sending[0] = head[sent:]
                    break
                sent -= len(head)
                self._sending.popleft()
        return False

    def _gather(self) -> bool:
        size = 0
        while self._control and size < _SEND_BATCH_BYTES:
            message = self._control.popleft()
            self._sending.append(memoryview(message))
            size += len(message)
        while self._ready and size < _SEND_BATCH_BYTES and self.in_flight_bytes < TOTAL_WINDOW_BYTES:
            child = self._ready.popleft()
            self._ready_slots.discard(child.slot)
            if child.in_flight_bytes >= WINDOW_BYTES:
                continue  # its next acknowledgement offers it again
            frame = child.next_frame()
            if frame is None:
                continue
            size += self._append(child.slot, frame)
            self.in_flight_bytes += frame.cost if frame.data else 0
            self.offer(child)
        return size > 0

    def _append(self, slot: int, frame: Frame) -> int:
        self._sending.append(memoryview(output_header(slot, frame.stream, frame.ts_ms, frame.offset, len(frame.data))))
        if frame.data:
            self._sending.append(memoryview(frame.data))
        return len(frame.data) + 26

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self.sock.close()

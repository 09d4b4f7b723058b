"""A unix socket on the event loop that carries bytes and file descriptors; asyncio's transports carry bytes only."""

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
_READS_PER_TURN = 16
"""Maximum number of reads in one turn of the event loop: then other tasks have theirs."""


class Channel:
    """A connection that calls `on_message` with each message that comes, and `on_lost` once when it is lost.

    Neither is called before the next turn of the event loop, nor after `close`. When the other end takes no more
    messages, those that it has sent still come: `on_lost` follows the last of them.

    Attributes:
        is_open: whether messages may still come.
        sent: number of the last message that the other end could read as a whole; see `write`.
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
        self._acks: dict[int, bytes] = {}
        self._written = 0
        self._is_refused = False
        self.is_open = True
        self.sent = 0
        self._loop.add_reader(sock, self._on_readable)

    @property
    def is_writable(self) -> bool:
        """Whether the other end takes messages, as far as is known."""
        return self.is_open and not self._is_refused

    def write(self, message: bytes, fds: Sequence[int] = ()) -> int:
        """Send a message and duplicates of descriptors, now or when the socket takes them.

        Returns:
            The number of the message, from 1 on. What the other end has not got whole, it does not act upon.
        """
        self._written += 1
        number = self._written
        if self.is_writable:
            was_idle = not self._unsent
            self._unsent.append((memoryview(message), [os.dup(fd) for fd in fds]))
            if was_idle:
                self._flush()
        return number

    def queue_ack(self, slot: int, message: bytes) -> None:
        """Send an ACK in the next turn of the event loop, together with those of other slots.

        An earlier ACK of the same slot that is still queued is not sent.
        """
        if not self._acks:
            self._loop.call_soon(self._send_acks)
        self._acks[slot] = message

    def _send_acks(self) -> None:
        acks, self._acks = self._acks, {}
        self.write(b"".join(acks.values()))
        failpoint("after-ack")

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors of the message that was just received; see `ReceivedFds.take_fds`."""
        return self._received.take_fds(count)

    def close(self) -> None:
        """Close the socket. Unsent messages are dropped."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._drop_unsent()
        self._received.close()

    def abort(self, why: Exception) -> None:
        """Close the socket, and call `on_lost` soon."""
        if self.is_open:
            self.close()
            self._loop.call_soon(self._on_lost, why)

    def _on_readable(self) -> None:
        for _ in range(_READS_PER_TURN):
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
            self._handle_messages()
            if count < len(space):
                return  # probably the socket is empty; if not, the event loop calls again

    def _handle_messages(self) -> None:
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
                    self.sent += 1
                else:
                    self._unsent[0] = (message[sent:], ())
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._flush)
            return
        except (BrokenPipeError, ConnectionResetError):  # its last answers may be there to be read
            self._is_refused = True
            self._drop_unsent()
        except OSError as exc:
            self.abort(exc)
            return
        with contextlib.suppress(ValueError):
            self._loop.remove_writer(self._sock)

    def _drop_unsent(self) -> None:
        for _, fds in self._unsent:
            close_all(fds)
        self._unsent.clear()

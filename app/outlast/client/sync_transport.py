"""Blocking connections to a daemon."""

import contextlib
import select
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from outlast.client.address import Address
from outlast.client.errors import Disconnected
from outlast.client.http1 import BadAnswerError, Connection, connect
from outlast.client.http1 import Reply as HttpReply
from outlast.client.request import Answer, Request

if TYPE_CHECKING:
    from outlast.client.sync_socket import Socket

_CONNECT_S = 30.0
_SWITCHED = 101


class Reply:
    """An answer whose body is still to be read."""

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply
        self.status = reply.status
        self.headers = reply.headers

    def read(self) -> bytes:
        """Return the whole body.

        Raises:
            Disconnected: the connection broke.
        """
        return b"".join(self.chunks())

    def chunks(self) -> Generator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            Disconnected: the connection broke, or was silent for too long.
        """
        with _as_disconnected(sent=True):
            yield from self._reply.chunks()


class Transport:
    """Connections to one daemon. Threads may share them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._path = urlsplit(address.url).path
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def ask(self, request: Request) -> Answer:
        """Return the whole answer, whatever its status.

        Raises:
            Disconnected: there was none.
        """
        connection = self._connect(request.silent_s)
        try:
            reply = self._send(connection, request)
            answer = Answer(reply.status, reply.headers, reply.read())
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        return answer

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Reply]:
        """Send a request, and give the answer with its body unread.

        Raises:
            Disconnected: there is no answer.
        """
        connection = self._connect(request.silent_s)
        try:
            yield self._send(connection, request)
        finally:
            connection.close()

    @contextlib.contextmanager
    def open_socket(self, request: Request) -> "Iterator[Socket]":
        """Ask for a websocket, and give the connection, which was perhaps refused.

        Raises:
            Disconnected: there is no answer.
        """
        from outlast.client.sync_socket import Socket  # noqa: PLC0415 - only terminals need it

        connection = self._connect(request.silent_s)
        try:
            reply = self._send(connection, request)
            body = b"" if reply.status == _SWITCHED else reply.read()
            yield Socket(connection, reply.status, reply.headers, body, request.silent_s)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections that no call uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        self.close()

    def _connect(self, silent_s: float | None) -> Connection:
        """Return a connection that no other call uses. `silent_s`: time without a byte after which it is broken."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                with _as_disconnected(sent=False, where=self._address.where):
                    connection = connect(self._address.url, self._address.socket, _CONNECT_S)
            elif _has_something(connection):  # the end: a daemon that has ended closed it
                connection.close()
                continue
            connection.socket.settimeout(silent_s)
            return connection

    def _send(self, connection: Connection, request: Request) -> Reply:
        with _as_disconnected(sent=True):
            headers = request.all_headers(self._address.token)
            connection.send(request.method, self._path + request.target, headers, request.body)
            return Reply(connection.answer())


def _has_something(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    return bool(poll.poll(0))


@contextlib.contextmanager
def _as_disconnected(*, sent: bool, where: str = "") -> Iterator[None]:
    """Turn each error of a connection into a `Disconnected`. `where`: the address, while it is connected to."""
    try:
        yield
    except (OSError, BadAnswerError) as exc:
        problem = f"no daemon answers at {where}" if where else "the connection to the daemon broke"
        raise Disconnected(f"{problem}: {exc or type(exc).__name__}", sent=sent) from exc

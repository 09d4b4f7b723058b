"""Blocking connections to a daemon, by the standard library's HTTP client."""

import contextlib
import http.client
import select
import socket
import threading
from collections.abc import Generator, Iterator
from urllib.parse import urlsplit

from outlast.client.address import Address
from outlast.client.errors import Disconnected
from outlast.client.request import Answer, Request

_CONNECT_S = 30.0
_READ_BYTES = 1 << 18


class Reply:
    """An answer whose body is still to be read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = dict(response.headers)

    def close(self) -> None:
        """Read nothing more."""
        self._response.close()

    def read(self) -> bytes:
        """Return the whole body.

        Raises:
            Disconnected: the connection broke.
        """
        with _as_disconnected(sent=True):
            return self._response.read()

    def chunks(self) -> Generator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            Disconnected: the connection broke, or was silent for too long.
        """
        with _as_disconnected(sent=True):
            while data := self._response.read1(_READ_BYTES):
                yield data


class Transport:
    """Connections to one daemon. Threads may share them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[http.client.HTTPConnection] = []
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
        if connection.sock is not None:  # the daemon did not ask to close it
            with self._lock:
                self._idle.append(connection)
        return answer

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Reply]:
        """Send a request, and give the answer with its body unread.

        Raises:
            Disconnected: there is no answer.
        """
        connection = self._connect(request.silent_s)
        try:
            reply = self._send(connection, request)
            try:
                yield reply
            finally:
                reply.close()
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

    def _connect(self, silent_s: float | None) -> http.client.HTTPConnection:
        """Return a connection that no other call uses. `silent_s`: time without a byte after which it is broken."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = _connection_to(self._address)
                with _as_disconnected(sent=False, where=self._address.where):
                    connection.connect()
            elif select.select([connection.sock], [], [], 0)[0]:  # closed by a daemon that has ended
                connection.close()
                continue
            connection.sock.settimeout(silent_s)
            return connection

    def _send(self, connection: http.client.HTTPConnection, request: Request) -> Reply:
        with _as_disconnected(sent=True):
            target = urlsplit(self._address.url).path + request.target
            connection.request(request.method, target, request.body, request.all_headers(self._address.token))
            return Reply(connection.getresponse())


class _UnixConnection(http.client.HTTPConnection):
    """A connection over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("outlast", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


def _connection_to(address: Address) -> http.client.HTTPConnection:
    if address.socket:
        return _UnixConnection(address.socket, _CONNECT_S)
    parts = urlsplit(address.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=_CONNECT_S)


@contextlib.contextmanager
def _as_disconnected(*, sent: bool, where: str = "") -> Iterator[None]:
    """Turn each error of a connection into a `Disconnected`. `where`: the address, while it is connected to."""
    try:
        yield
    except (OSError, http.client.HTTPException) as exc:
        problem = f"no daemon answers at {where}" if where else "the connection to the daemon broke"
        raise Disconnected(f"{problem}: {exc or type(exc).__name__}", sent=sent) from exc

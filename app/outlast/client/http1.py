"""HTTP/1.1 over a blocking socket: one request at a time, and its answer as it comes.

The standard library's client reads headers with its parser of e-mail and loads TLS for every address. That takes as
long as everything else that a command of a user imports: see docs/decisions/0029-a-client-without-connections.md.
"""

import re
import socket
from collections.abc import Callable, Generator, Mapping
from urllib.parse import urlsplit

_READ_BYTES = 1 << 18
_LONGEST_LINE = 1 << 16
_MOST_LINES = 256
_SMALL_BODY = 1 << 16
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,12}")
_NO_BODY = {204, 304}
_FIRST_FINAL = 200
_SWITCHED = 101


class BadAnswerError(Exception):
    """The answer is none of HTTP/1.1, or the connection was closed inside it."""


def read_head(line: Callable[[], bytes]) -> tuple[bytes, int, dict[str, str]]:
    """Return version, status and headers of an answer. Of a header that is repeated, the last one counts.

    `line`: returns the next line of the answer, without its line break.

    Raises:
        BadAnswerError: the lines are not those of HTTP/1.
    """
    version, _, rest = line().partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BadAnswerError("the answer is not HTTP")
    headers: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        field = line()
        if not field:
            return version, int(rest[:3]), headers
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.strip().title()] = value.strip()
    raise BadAnswerError("the answer has too many headers")


class Connection:
    """A connection to one server.

    Attributes:
        socket: socket of the connection.
        is_reusable: whether the answer was read to its end, and the server keeps the connection.
    """

    def __init__(self, stream: socket.socket, host: str) -> None:
        """`host`: value of the header `Host`."""
        self.socket = stream
        self.is_reusable = False
        self._host = host
        self._file = stream.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self.is_reusable = False
        self._file.close()
        self.socket.close()

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> None:
        """Send a request.

        Raises:
            OSError: the connection broke.
        """
        self.is_reusable = False
        sized = {} if body is None and method == "GET" else {"Content-Length": str(len(body or b""))}
        fields = {"Host": self._host, "Accept-Encoding": "identity", **sized, **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        data = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1")
        body = body or b""
        if len(body) <= _SMALL_BODY:
            self.socket.sendall(data + body)
        else:
            self.socket.sendall(data)
            self.socket.sendall(body)

    def answer(self) -> "Reply":
        """Return the answer with its body unread.

        Raises:
            OSError: the connection broke.
            BadAnswerError: the server has closed it, or speaks something else.
        """
        while True:
            reply = Reply(self, *read_head(self.line))
            if reply.status >= _FIRST_FINAL or reply.status == _SWITCHED:
                return reply

    def line(self) -> bytes:
        """Return a line of the answer, without its line break.

        Raises:
            BadAnswerError: it ends early, or has no end.
        """
        line = self._file.readline(_LONGEST_LINE)
        if line[-1:] != b"\n":
            problem = "the line of an answer is too long" if line else "the server has closed it"
            raise BadAnswerError(problem)
        return line.rstrip(b"\r\n")

    def some(self, most: int | None) -> bytes:
        """Return at least one byte of the answer and at most `most`, as soon as there are any; nothing at the end."""
        return self._file.read1(_READ_BYTES if most is None else min(most, _READ_BYTES))

    def detach(self) -> tuple[bytes, socket.socket]:
        """Return what was read behind the last answer, and the socket, from which the caller reads from now on."""
        self.is_reusable = False
        self.socket.setblocking(False)
        try:
            first = self._file.read1(_READ_BYTES) or b""
        except OSError:  # TLS has nothing
            first = b""
        self.socket.setblocking(True)
        return first, self.socket


class Reply:
    """An answer whose body is still to be read. `headers`: their names are capitalised, as in `Retry-After`."""

    def __init__(self, connection: Connection, version: bytes, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._stays = version == b"HTTP/1.1" and headers.get("Connection", "").lower() != "close"

    def chunks(self) -> Generator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            OSError: the connection broke, or was silent for too long.
            BadAnswerError: the body ends early.
        """
        if self.status in _NO_BODY:
            pass
        elif self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := self._size_of_chunk():
                yield from self._piece(size)
                self._connection.line()
            while self._connection.line():
                pass  # trailers
        elif (length := self.headers.get("Content-Length", "")).isdecimal():
            yield from self._piece(int(length))
        else:
            while data := self._connection.some(None):
                yield data
            return
        self._connection.is_reusable = self._stays

    def _size_of_chunk(self) -> int:
        line = self._connection.line()
        digits = line.partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(digits):
            raise BadAnswerError("the size of a chunk is not a number")
        return int(digits, 16)

    def _piece(self, left: int) -> Generator[bytes, None]:
        while left:
            data = self._connection.some(left)
            if not data:
                raise BadAnswerError("the server has closed it")
            left -= len(data)
            yield data


def connect(url: str, path: str, timeout_s: float) -> Connection:
    """Return a connection to a server.

    Args:
        url: URL with scheme and host.
        path: path of a unix socket; empty: connect to the host.
        timeout_s: time within which the server has to accept it.

    Raises:
        OSError: it did not.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if path:
        return Connection(_unix_socket(path, timeout_s), host)
    is_secure = parts.scheme == "https"
    # As bytes: names of hosts in other scripts, whose encoding would be loaded, are written in ASCII.
    place = ((parts.hostname or "").encode(), parts.port or (443 if is_secure else 80))
    stream = socket.create_connection(place, timeout_s)  # type: ignore[arg-type] # see above
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_secure:
            import ssl  # noqa: PLC0415 - takes longer than all the rest, and a daemon of this machine has none

            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=parts.hostname)
    except BaseException:
        stream.close()
        raise
    return Connection(stream, host)


def _unix_socket(path: str, timeout_s: float) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(timeout_s)
        stream.connect(path)
    except BaseException:
        stream.close()
        raise
    return stream

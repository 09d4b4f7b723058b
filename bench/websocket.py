"""A websocket client that blocks and does next to nothing: it must not be what is measured."""

import base64
import socket
import struct
from collections.abc import Mapping

_RECEIVE_BYTES = 256 << 10
_SHORT, _MEDIUM = 126, 127
_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A


class WebSocket:
    """One connection."""

    def __init__(self, host: str, port: int, path: str, headers: Mapping[str, str], timeout_s: float) -> None:
        """Connect.

        Raises:
            RuntimeError: the server refuses.
        """
        self.sock = socket.create_connection((host, port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fields = {
            "Host": f"{host}:{port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
            **headers,
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise RuntimeError(f"the server refuses a websocket: {head.splitlines()[0].decode()}")

    def send(self, data: bytes) -> None:
        """Send a short binary message."""
        self._send(_BINARY, data)

    def _send(self, kind: int, data: bytes) -> None:
        if len(data) >= _SHORT:
            raise ValueError("this client sends short messages only")
        self.sock.sendall(bytes([kind, len(data) | 0x80, 0, 0, 0, 0]) + data)

    def receive(self) -> bytes:
        """Return the next binary message; empty: the server has closed the connection."""
        while True:
            kind, data = self._frame()
            if kind == _PING:
                self._send(_PONG, data)
            elif kind == _BINARY:
                return data
            elif kind == _CLOSE:
                return b""

    def _frame(self) -> tuple[int, bytes]:
        kind, size = self._take(2)
        if size == _SHORT:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == _MEDIUM:
            (size,) = struct.unpack(">Q", self._take(8))
        return kind, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        data = self.sock.recv(_RECEIVE_BYTES)
        if not data:
            raise RuntimeError("the server has closed the connection")
        self._buffer += data

    def close(self) -> None:
        """Close the connection, without a word."""
        self.sock.close()

"""Frames of a websocket, as a client sends and reads them (RFC 6455), without a connection."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA

_LONGEST = 1 << 24
_FINAL, _MASKED, _OPCODE, _LENGTH = 0x80, 0x80, 0x0F, 0x7F
_SHORT_LENGTH, _LONG_LENGTH = 126, 127
_NO_STATUS = 1005


class BadFrameError(Exception):
    """A server may not send such a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. `opcode`: BINARY for a message, and its parts; CLOSE, PING or PONG for others."""

    opcode: int
    data: bytes

    @property
    def close_code(self) -> int:
        """Code with which the server closes; 1005: none."""
        return int.from_bytes(self.data[:2], "big") if len(self.data) >= 2 else _NO_STATUS  # noqa: PLR2004 - a number of 16 bits

    @property
    def reason(self) -> str:
        """Why the server closes."""
        return self.data[2:].decode("utf-8", "replace")


class Frames:
    """The frames that come over one connection."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises:
            BadFrameError: a frame is masked, or longer than 16 MiB.
        """
        self._rest += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        rest = self._rest
        if len(rest) < 2:  # noqa: PLR2004 - the shortest frame
            return None
        length, begin = rest[1] & _LENGTH, 2
        if length >= _SHORT_LENGTH:
            begin = 4 if length == _SHORT_LENGTH else 10
            if len(rest) < begin:
                return None
            length = int.from_bytes(rest[2:begin], "big")
        if rest[1] & _MASKED or length > _LONGEST:
            raise BadFrameError("the server breaks the websocket protocol")
        if len(rest) < begin + length:
            return None
        opcode = rest[0] & _OPCODE or BINARY  # a part that is continued
        frame = Frame(opcode, bytes(rest[begin : begin + length]))
        del rest[: begin + length]
        return frame


def frame(data: bytes, opcode: int = BINARY) -> bytes:
    """Return the frame that a client sends."""
    size = len(data)
    if size < _SHORT_LENGTH:
        length = bytes([_MASKED | size])
    elif size < 1 << 16:
        length = bytes([_MASKED | _SHORT_LENGTH]) + size.to_bytes(2, "big")
    else:
        length = bytes([_MASKED | _LONG_LENGTH]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
    return bytes([_FINAL | opcode]) + length + mask + masked


def upgrade() -> dict[str, str]:
    """Return the headers that ask for a websocket."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }

"""Messages between daemon and shim: a length, a type and a payload, over one unix stream socket.

docs/protocol.md describes them. Payloads are JSON where size does not matter and packed where it does. Output does not
travel over the socket: both ends hold its buffer files, and messages say where in them it is.
"""

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

PROTOCOL_VERSION = 7
MAGIC = b"OUTLAST\0"
MAX_MESSAGE_BYTES = 64 << 20
_SMALLEST_READ = 64 << 10

_HEADER = struct.Struct("<IB")
_GREETING = struct.Struct("<8sH")
_OUTPUT = struct.Struct("<IBQQI")
_WHOLE_OUTPUT = struct.Struct("<IBIBQQI")
_POSITION = struct.Struct("<IQQ")
_STDIN = struct.Struct("<II")


class MessageType(IntEnum):
    """Types of messages. Both ends send GREETING; of the others, the shim sends those below 64, the daemon the rest.

    INVENTORY, STARTING, SEGMENT, ADOPT, the daemon's GREETING and the answer to API_SOCKETS come with file descriptors
    (SCM_RIGHTS).
    """

    GREETING = 1
    INVENTORY = 2
    REPLY = 3
    OUTPUT = 4
    EXITED = 5
    STDIN_CLOSED = 6
    INVENTORY_END = 7
    STARTING = 8
    STARTED = 9
    FAILED = 10
    PROBLEM = 11
    SEGMENT = 12
    ATTACHED = 13

    SPAWN = 64
    ATTACH = 65
    ACK = 66
    FORGET = 67
    SIGNAL = 68
    KILL = 69
    STDIN = 70
    CLOSE_STDIN = 71
    ADOPT = 72
    EXIT = 73
    UPGRADE = 74
    SWEEP = 75
    API_SOCKETS = 76
    USAGE = 77


_TYPES = {kind.value: kind for kind in MessageType}


class WireError(Exception):
    """Bytes from the other end that are not a message of this protocol."""


def encode(kind: MessageType, payload: bytes = b"") -> bytes:
    """Return one message as bytes."""
    return _HEADER.pack(len(payload), kind) + payload


def encode_json(kind: MessageType, value: Any) -> bytes:
    """Return one message with a JSON payload."""
    return encode(kind, json.dumps(value, separators=(",", ":")).encode())


def encode_greeting(version: int, value: Any) -> bytes:
    """Return the first message of either side: magic, version, then JSON that only this version defines."""
    return encode(
        MessageType.GREETING,
        _GREETING.pack(MAGIC, version) + json.dumps(value, separators=(",", ":")).encode(),
    )


def decode_greeting(payload: memoryview) -> tuple[int, memoryview]:
    """Return the version of a greeting and the JSON behind it.

    Raises:
        WireError: the payload is not a greeting of any version.
    """
    if len(payload) < _GREETING.size:
        raise WireError("the greeting is too short")
    magic, version = _GREETING.unpack_from(payload)
    if magic != MAGIC:
        raise WireError("the greeting does not begin with Outlast's magic bytes")
    return version, payload[_GREETING.size :]


def encode_output(slot: int, stream: int, ts_ms: int, offset: int, size: int) -> bytes:
    """Return an OUTPUT message: `size` bytes of a stream were read, from `offset` on. Size 0: the stream has ended."""
    return _WHOLE_OUTPUT.pack(_OUTPUT.size, MessageType.OUTPUT, slot, stream, ts_ms, offset, size)


def decode_output(payload: memoryview) -> tuple[int, int, int, int, int]:
    """Return slot, stream, time in ms, offset in the stream, and size in bytes."""
    return _OUTPUT.unpack(payload)


def encode_position(kind: MessageType, slot: int, stdout_end: int, stderr_end: int) -> bytes:
    """Return an ATTACH, ATTACHED or ACK: a slot, and an offset in each of its two streams."""
    return encode(kind, _POSITION.pack(slot, stdout_end, stderr_end))


def decode_position(payload: memoryview) -> tuple[int, int, int]:
    """Return slot, stdout_end and stderr_end."""
    return _POSITION.unpack(payload)


def encode_stdin(request: int, slot: int, data: bytes) -> bytes:
    """Return a message that brings bytes for a process's standard input."""
    return encode(MessageType.STDIN, _STDIN.pack(request, slot) + data)


def decode_stdin(payload: memoryview) -> tuple[int, int, bytes]:
    """Return request number, slot and data."""
    request, slot = _STDIN.unpack_from(payload)
    return request, slot, bytes(payload[_STDIN.size :])


class Decoder:
    """A cutter of a byte stream into messages. Fill `space()`, report how much with `filled()`, then read `messages()`.

    The payload of a message is a view that is valid until the next call of `space()`.
    """

    def __init__(self, capacity: int) -> None:
        self._buffer = bytearray(capacity)
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Return a view to put the next bytes into. The view is never empty."""
        if self._start == self._end:
            self._start = self._end = 0
        wanted = self._next_size()
        if self._start + wanted > len(self._buffer) or len(self._buffer) - self._end < _SMALLEST_READ:
            rest = bytes(memoryview(self._buffer)[self._start : self._end])
            if len(self._buffer) - len(rest) < _SMALLEST_READ or wanted > len(self._buffer):
                self._buffer = bytearray(wanted + _SMALLEST_READ)
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return memoryview(self._buffer)[self._end :]

    def filled(self, count: int) -> None:
        """Report that `count` bytes were put into the last `space()`."""
        self._end += count

    def messages(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Yield the complete messages.

        Raises:
            WireError: a message is over the size limit or of an unknown type.
        """
        view = memoryview(self._buffer)
        while self._end - self._start >= _HEADER.size:
            size, kind = _HEADER.unpack_from(view, self._start)
            if size > MAX_MESSAGE_BYTES:
                raise WireError(f"a message of {size} bytes is over the limit of {MAX_MESSAGE_BYTES} bytes")
            begin = self._start + _HEADER.size
            if begin + size > self._end:
                return
            known = _TYPES.get(kind)
            if known is None:
                raise WireError(f"unknown message type {kind}")
            self._start = begin + size
            yield known, view[begin : begin + size]

    def _next_size(self) -> int:
        if self._end - self._start < _HEADER.size:
            return _HEADER.size
        size: int = _HEADER.unpack_from(self._buffer, self._start)[0]
        return _HEADER.size + size

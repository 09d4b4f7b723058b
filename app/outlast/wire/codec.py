"""The protocol between daemon and shim: one unix stream socket, messages of a length, a type and a payload.

Described in docs/protocol.md. A payload is JSON where size does not matter and packed where it does. What processes
write does not travel here: both ends hold the buffer files that it is in, and messages say where in them.
"""

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

PROTOCOL_VERSION = 3
MAGIC = b"OUTLAST\0"
MAX_MESSAGE_BYTES = 64 << 20
_SMALLEST_READ = 64 << 10

_FRAME = struct.Struct("<IB")
_GREETING = struct.Struct("<8sH")
_OUTPUT = struct.Struct("<IBQQI")
_WHOLE_OUTPUT = struct.Struct("<IBIBQQI")
_MARK = struct.Struct("<IQQ")
_STDIN = struct.Struct("<II")


class MessageType(IntEnum):
    """What a message is. GREETING is said by both; of the others, below 64 the shim speaks, from 64 on the daemon.

    INVENTORY, STARTING and ADOPT come with file descriptors (SCM_RIGHTS).
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


class WireError(Exception):
    """The other end sent what is not a message of this protocol."""


def encode(kind: MessageType, payload: bytes = b"") -> bytes:
    """Frame one message."""
    return _FRAME.pack(len(payload), kind) + payload


def encode_json(kind: MessageType, value: Any) -> bytes:
    """Frame one message whose payload is JSON."""
    return encode(kind, json.dumps(value, separators=(",", ":")).encode())


def encode_greeting(version: int, value: Any) -> bytes:
    """Frame the first message of either side: magic, version, then JSON that only this version defines."""
    return encode(
        MessageType.GREETING,
        _GREETING.pack(MAGIC, version) + json.dumps(value, separators=(",", ":")).encode(),
    )


def decode_greeting(payload: memoryview) -> tuple[int, memoryview]:
    """Return the version and the JSON behind it.

    Raises:
        WireError: it is no greeting of any version.
    """
    if len(payload) < _GREETING.size:
        raise WireError("the greeting is too short")
    magic, version = _GREETING.unpack_from(payload)
    if magic != MAGIC:
        raise WireError("the greeting does not begin as ours")
    return version, payload[_GREETING.size :]


def encode_output(slot: int, stream: int, ts_ms: int, offset: int, size: int) -> bytes:
    """Frame an OUTPUT message: so many bytes were read at that offset of the stream. None: the stream has ended."""
    return _WHOLE_OUTPUT.pack(_OUTPUT.size, MessageType.OUTPUT, slot, stream, ts_ms, offset, size)


def decode_output(payload: memoryview) -> tuple[int, int, int, int, int]:
    """Return slot, stream, time in ms, offset in the stream, and size."""
    return _OUTPUT.unpack(payload)


def encode_mark(kind: MessageType, slot: int, stdout_end: int, stderr_end: int) -> bytes:
    """Frame an ATTACH or ACK: a slot, and an offset in each of its two streams."""
    return encode(kind, _MARK.pack(slot, stdout_end, stderr_end))


def decode_mark(payload: memoryview) -> tuple[int, int, int]:
    """Return slot, stdout_end and stderr_end."""
    return _MARK.unpack(payload)


def encode_stdin(request: int, slot: int, data: bytes) -> bytes:
    """Frame bytes for a process's standard input."""
    return encode(MessageType.STDIN, _STDIN.pack(request, slot) + data)


def decode_stdin(payload: memoryview) -> tuple[int, int, bytes]:
    """Return request number, slot and data."""
    request, slot = _STDIN.unpack_from(payload)
    return request, slot, bytes(payload[_STDIN.size :])


class Decoder:
    """Cuts a byte stream into messages. Fill `space()`, say how much with `filled()`, then read `messages()`.

    A message's payload is a view that is good until the next call of `space()`.
    """

    def __init__(self, capacity: int) -> None:
        self._buffer = bytearray(capacity)
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Room for the next bytes, never empty."""
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
        """`count` bytes were put into the last `space()`."""
        self._end += count

    def messages(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Yield the messages that are complete.

        Raises:
            WireError: a length over the limit, or an unknown type.
        """
        view = memoryview(self._buffer)
        while self._end - self._start >= _FRAME.size:
            size, kind = _FRAME.unpack_from(view, self._start)
            if size > MAX_MESSAGE_BYTES:
                raise WireError(f"a message of {size} bytes is over the limit of {MAX_MESSAGE_BYTES}")
            begin = self._start + _FRAME.size
            if begin + size > self._end:
                return
            try:
                known = MessageType(kind)
            except ValueError as exc:
                raise WireError(f"unknown message type {kind}") from exc
            self._start = begin + size
            yield known, view[begin : begin + size]

    def _next_size(self) -> int:
        if self._end - self._start < _FRAME.size:
            return _FRAME.size
        size: int = _FRAME.unpack_from(self._buffer, self._start)[0]
        return _FRAME.size + size

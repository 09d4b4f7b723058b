"""Messages: they are decoded as they were encoded, however their bytes arrive; anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.wire import codec
from outlast.wire.codec import Decoder, MessageType, WireError

MESSAGES = st.lists(st.tuples(st.sampled_from(MessageType), st.binary(max_size=300)), max_size=8)


def decode(raw: bytes, sizes: list[int], capacity: int) -> list[tuple[MessageType, bytes]]:
    decoder = Decoder(capacity)
    found = []
    while raw:
        space = decoder.space()
        assert len(space) > 0
        size = max(1, min(sizes.pop() if sizes else len(space), len(space), len(raw)))
        space[:size] = raw[:size]
        raw = raw[size:]
        decoder.filled(size)
        found += [(kind, bytes(payload)) for kind, payload in decoder.messages()]
    return found


@given(MESSAGES, st.lists(st.integers(1, 100)), st.integers(1, 500))
def test_messages_survive_any_cutting(
    messages: list[tuple[MessageType, bytes]], sizes: list[int], capacity: int
) -> None:
    raw = b"".join(codec.encode(kind, payload) for kind, payload in messages)
    assert decode(raw, sizes, capacity) == messages


U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(U32, st.sampled_from([1, 2]), U64, U64, U32)
def test_output_survives_encoding(slot: int, stream: int, ts_ms: int, offset: int, size: int) -> None:
    ((kind, payload),) = decode(codec.encode_output(slot, stream, ts_ms, offset, size), [], 64)
    assert kind is MessageType.OUTPUT
    assert codec.decode_output(memoryview(payload)) == (slot, stream, ts_ms, offset, size)


def test_a_position_survives_encoding() -> None:
    ((_, position),) = decode(codec.encode_position(MessageType.ACK, 7, 2**40, 3), [], 64)
    assert codec.decode_position(memoryview(position)) == (7, 2**40, 3)


def test_input_survives_encoding() -> None:
    ((_, data),) = decode(codec.encode_stdin(5, 7, b"\0x"), [], 64)
    assert codec.decode_stdin(memoryview(data)) == (5, 7, b"\0x")


def test_the_greeting_tells_versions_apart() -> None:
    ((kind, payload),) = decode(codec.encode_greeting(9, {"pid": 1}), [], 64)
    assert kind is MessageType.GREETING
    version, rest = codec.decode_greeting(memoryview(payload))
    assert (version, bytes(rest)) == (9, b'{"pid":1}')
    for nonsense in (b"", b"HTTP/1.1 400 Bad", b"OUTLAST"):
        with pytest.raises(WireError):
            codec.decode_greeting(memoryview(nonsense))


def test_bytes_that_are_not_a_message_are_refused() -> None:
    with pytest.raises(WireError, match="unknown message type"):
        decode(b"\0\0\0\0\xff", [], 64)
    with pytest.raises(WireError, match="over the limit"):
        decode(b"\xff\xff\xff\xff\x01", [], 64)

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.http_client import Event, parse_events
from outlast.api.streaming import sse
from outlast.core.query.matcher import Text
from outlast.model.output import Chunk, ChunkQuery, Stream, Trimmed

from .chunks import DATA, chunk, gap


def encoded(cache: sse.EventCache, *chunks: Chunk) -> bytes:
    return b"".join(piece.events for piece in cache.pieces(chunks))


def expected_events(chunk: Chunk) -> list[dict[str, object]]:
    return [
        {"line": line.decode("utf-8", "replace"), "timestamp": chunk.ts_ms, "stream": chunk.stream.word}
        for line in chunk.lines()
    ]


@given(data=DATA, first_seq=st.integers(1, 10**12), stream=st.sampled_from(Stream))
def test_each_line_is_one_event(data: bytes, first_seq: int, stream: Stream) -> None:
    it = chunk(data, first_seq=first_seq, stream=stream)
    events, comments = parse_events(encoded(sse.EventCache(), it))
    assert comments == []
    assert [event.data for event in events] == expected_events(it)
    assert [event.id for event in events] == list(range(first_seq, it.last_seq + 1))
    assert {event.kind for event in events} == {"output"}


@given(data=DATA)
def test_ndjson_holds_the_same_lines(data: bytes) -> None:
    it = chunk(data, first_seq=7)
    text = sse.encode(sse.NDJSON, it, it.data, range(7, it.last_seq + 1))
    lines = text.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [
        {"id": 7 + index, **event} for index, event in enumerate(expected_events(it))
    ]


@given(data=DATA)
def test_events_of_a_group_hold_the_same_lines(data: bytes) -> None:
    it = chunk(data, first_seq=7)
    about: dict[str, object] = {"process_id": "x", "name": 'a"b'}
    events, _ = parse_events(sse.group_events(it, it.data, 7, ("3:1,12:", ",13:0,15"), about))
    assert [event.data for event in events] == [
        {"seq": 7 + index, **about, **event} for index, event in enumerate(expected_events(it))
    ]
    assert [event.id_text for event in events] == [f"3:1,12:{7 + index},13:0,15" for index in range(len(events))]


def test_the_form_is_that_of_the_contract() -> None:
    it = chunk(b"Processing item 1/10\n", first_seq=17)
    assert encoded(sse.EventCache(), it) == (
        b"id: 17\nevent: output\n"
        b'data: {"line":"Processing item 1/10\\n","timestamp":1710000000000,"stream":"stdout"}\n\n'
    )
    assert parse_events(sse.eof_event(7, {"exit_code": 3})) == ([Event("eof", None, '{"exit_code":3}')], [])
    assert sse.eof_event(7, {}) == b"id: 7-eof\nevent: eof\ndata: {}\n\n"
    assert parse_events(sse.KEEP_ALIVE) == ([], ["keep-alive"])


def test_no_event_holds_a_line_end_of_unicode() -> None:
    """Readers that split by Unicode's rules must not find an end inside an event."""
    text = "a\u0085b\u2028c\u2029d\x7f"
    it = chunk(f"{text}\n".encode())
    forms = [
        encoded(sse.EventCache(), it),
        sse.run_events(it.data, it, [1]),
        sse.data_event({"line": text}),
        sse.ndjson_line({"line": text}),
        sse.encode(sse.NDJSON, it, it.data, [1]),
        sse.marked_lines(it, it.data, [1], Text(b"a")),
        sse.group_events(it, it.data, 1, ("7:", ""), {"name": None}),
    ]
    for form in forms:
        line = next(line for line in form.decode().splitlines() if "line" in line)
        assert json.loads(line.removeprefix("data: "))["line"].removesuffix("\n") == text


def test_a_gap_is_an_event_of_its_own() -> None:
    it = gap(17)
    assert encoded(sse.EventCache(), it) == (
        b'id: 17\nevent: gap\ndata: {"from":17,"to":17,"reason":"store_replaced"}\n\n'
    )
    assert sse.gap_line(it) == (
        b'{"id":17,"gap":{"from":17,"to":17,"reason":"store_replaced"},"timestamp":1710000000000,"stream":"stdout"}\n'
    )


@given(data=DATA, cut=st.integers(1, 300))
def test_a_cached_encoding_serves_followers_from_other_positions(data: bytes, cut: int) -> None:
    cache = sse.EventCache()
    it = chunk(data)
    assert encoded(cache, it) == encoded(cache, it)
    if cut < it.last_seq:
        rest = it.after(cut)
        assert encoded(cache, rest) == encoded(sse.EventCache(), rest)
    if cut <= it.last_seq:
        head = it.first(cut)
        assert encoded(cache, head) == encoded(sse.EventCache(), head)


def test_followers_share_the_same_bytes() -> None:
    cache = sse.EventCache()
    it = chunk(b"line\n" * 50_000)
    first = list(cache.pieces([it]))
    assert len(first) > 1
    assert all(one is other for one, other in zip(first, cache.pieces([it]), strict=True))
    small = [chunk(b"line\n", first_seq=seq) for seq in range(100_000, 100_010)]
    [together] = cache.pieces(small)
    assert next(cache.pieces(small)) is together


@given(
    st.lists(st.tuples(st.sampled_from([b"a\n", b"b\nc", b"", b"line\n" * 3000]), st.sampled_from(Stream)), min_size=1)
)
def test_chunks_are_encoded_together_as_alone(parts: list[tuple[bytes, Stream]]) -> None:
    """A reader of another selection of the same chunks gets its own events, also from the same cache."""
    chunks = []
    seq = 1
    for data, stream in parts:
        chunks.append(chunk(data, first_seq=seq, stream=stream) if data else gap(seq))
        seq = chunks[-1].last_seq + 1
    cache = sse.EventCache()
    for chosen in (chunks, chunks[::2], [chunks[0], *chunks[2:]], chunks):
        pieces = list(cache.pieces(chosen))
        assert b"".join(piece.events for piece in pieces) == b"".join(encoded(sse.EventCache(), it) for it in chosen)
        assert [piece.last_seq for piece in pieces] == sorted({piece.last_seq for piece in pieces})
        assert pieces[-1].last_seq == chosen[-1].last_seq
        for piece in pieces:
            ids = [line for line in piece.events.split(b"\n") if line.startswith(b"id: ")]
            assert ids[-1] == b"id: %d" % piece.last_seq


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = sse.EventCache(max_bytes=300_000)
    for index in range(100):
        for _ in cache.pieces([chunk(b"x" * 99 + b"\n", first_seq=index * 1000 + 1)]):
            pass
        for _ in cache.pieces([chunk(b"line\n" * 5000, first_seq=index * 10_000_000 + 1)]):
            pass
        assert cache.size_bytes <= 300_000


def test_the_cache_is_bounded_in_bytes_for_single_lines() -> None:
    """A piece of one short line takes several times the memory of its events."""
    cache = sse.EventCache(max_bytes=2_000_000)
    tracemalloc.start()
    try:
        for index in range(20_000):
            for _ in cache.pieces([chunk(b"a line\n", first_seq=index + 1_000_000)]):
                pass
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1.2 * 2_000_000


def test_pieces_are_small_for_lines_of_any_length() -> None:
    for data in (b"\n" * 1_000_000, b"0123456789\n" * 90_000, b"x" * 95 + b"\n" + b"y\n" * 300_000):
        pieces = [piece.events for piece in sse.EventCache().pieces([chunk(data)])]
        assert max(map(len, pieces)) <= 4 * sse.FOLLOW_PIECE_BYTES
        assert sum(piece.count(b"\n\n") for piece in pieces) == chunk(data).line_count


def test_a_long_line_is_one_event() -> None:
    data = b"short\n" + b"x" * (1 << 20) + b"\nshort\n"
    events, _ = parse_events(encoded(sse.EventCache(), chunk(data)))
    assert [len(event.data["line"]) for event in events] == [6, (1 << 20) + 1, 6]


@pytest.mark.parametrize("chunks", [0, 1, 3, 5000])
def test_lines_behind_deleted_output_come_after_its_gap(chunks: int) -> None:
    gone = Trimmed(last_seq=6, lines=6, bytes=12, until_ms=3).gap(ChunkQuery(handle=1, max_bytes=1))
    assert gone is not None
    left = [chunk(b"x\n", first_seq=7 + n) for n in range(chunks)]
    events, _ = parse_events(encoded(sse.EventCache(), gone, *left))
    assert [event.id for event in events] == list(range(6, 7 + chunks))
    assert events[0].data == {"from": 1, "to": 6, "reason": "retention", "lines": 6, "bytes": 12}


@given(data=DATA)
def test_blocks_are_the_data_cut_after_lines(data: bytes) -> None:
    it = chunk(data)
    blocks = list(sse.blocks(it.data, it.line_count))
    assert b"".join(blocks) == data
    assert all(block.endswith(b"\n") for block in blocks[:-1])

"""Chunks for tests, made by the rules of the capture."""

from collections.abc import Iterable

from hypothesis import strategies as st

from outlast.model.output import Chunk, GapReason, Position, Stream, count_lines

NASTY = st.sampled_from(
    [
        b"\n", b"\r", b"\r\n", b"\0", b'"', b"\\", b'","', b'",', b"\\n", b"\x7f", b"\x1b[0m", b",", b"data: x",
        "\u2028".encode(), "\u2029".encode(), "\x85".encode(), "\ue000".encode(), "é😀".encode(),
        b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f\x98", b"plain text",
    ]
)  # fmt: skip
DATA = st.one_of(st.lists(NASTY, min_size=1, max_size=30).map(b"".join), st.binary(min_size=1, max_size=200))


def chunk(
    data: bytes, *, first_seq: int = 1, stream: Stream = Stream.STDOUT, run: int = 1, ts_ms: int = 1710000000000
) -> Chunk:
    return Chunk(
        handle=1,
        run=run,
        first_seq=first_seq,
        line_count=count_lines(data),
        stream=stream,
        ts_ms=ts_ms,
        stdout_end=0,
        stderr_end=0,
        data=data,
    )


def gap(first_seq: int, stream: Stream = Stream.STDOUT, *, ts_ms: int = 1710000000000) -> Chunk:
    before = Position(last_seq=first_seq - 1)
    reason = GapReason.STORE_REPLACED
    return Chunk.gap_after(before, handle=1, run=1, stream=stream, missing_bytes=9, reason=reason, ts_ms=ts_ms)


def numbered(parts: Iterable[tuple[bytes | None, Stream]]) -> list[Chunk]:
    """Number the lines of consecutive chunks; None is a gap."""
    chunks: list[Chunk] = []
    seq = 1
    for index, (data, stream) in enumerate(parts):
        ts_ms = 1710000000000 + index
        chunks.append(
            gap(seq, stream, ts_ms=ts_ms) if data is None else chunk(data, first_seq=seq, stream=stream, ts_ms=ts_ms)
        )
        seq = chunks[-1].last_seq + 1
    return chunks


CHUNKS = st.lists(st.tuples(st.none() | DATA, st.sampled_from(Stream)), max_size=8).map(numbered)

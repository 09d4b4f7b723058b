r"""Output as events: Server-Sent Events for followers, NDJSON for readers.

An event is one line of `app.model.output`, with its terminator if it has one, or a gap. A block of lines is encoded
at once: decoded, its line ends replaced by a byte that JSON leaves as it is, made one JSON string, and cut
at that byte. That makes 8 M events/s on one core where a `dumps` for each event makes 2 M. Lines end at
"\n" and nowhere else.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from app.model.output import Chunk

# What one write to a client is made of, about; a slow client keeps one in memory. A follower got 1.8, 2.9 and 3.6 M
# events/s with 32, 64 and 256 KiB.
PIECE_BYTES = 128 * 1024
CACHE_BYTES = 16 * 1024 * 1024  # of encoded events, kept for other followers of the same process
KEEP_ALIVE = b": keep-alive\n\n"
EOF = b"event: eof\ndata: {}\n\n"

_PIECE_OVERHEAD_BYTES = 370  # of a piece in the cache besides its events, and more than those of one short line
_EVENT_BYTES = 96  # of an event besides its line, about
_MARK = "\x7f"  # DEL: one byte, which orjson does not escape
_MARK_BYTE = _MARK.encode()


@dataclass(frozen=True, slots=True)
class Format:
    """What stands around the parts of an event: `before` id `between` line `after`."""

    before: bytes
    between: bytes
    after: bytes


SSE = Format(b"id: ", b'\nevent: output\ndata: {"line":"', b"}\n\n")
NDJSON = Format(b'{"id":', b',"line":"', b"}\n")


def json_lines(data: bytes) -> list[bytes]:
    r"""Make what stands between the quotes of a JSON string, for each line of `data` without its "\n".

    Bytes that are not UTF-8 become U+FFFD, as if each line were decoded for itself: "\n" is never part of a
    longer character. The last item is what follows the last "\n": empty when `data` ends with one.
    """
    text = data.decode("utf-8", "replace")
    if _MARK in text:
        return [orjson.dumps(line)[1:-1] for line in text.split("\n")]
    return orjson.dumps(text.replace("\n", _MARK))[1:-1].split(_MARK_BYTE)


def encode(form: Format, chunk: Chunk, data: bytes, ids: Sequence[int]) -> bytes:
    """Encode `data`, lines of `chunk` whose ids are `ids`."""
    lines = json_lines(data)
    unfinished = lines.pop()
    stamp = b'","timestamp":%d,"stream":"%b"' % (chunk.ts_ms, chunk.stream.word.encode())
    id_texts = orjson.dumps(list(ids))[1:-1].split(b",")
    count = len(lines)
    parts = [form.between] * (4 * count)
    parts[0::4] = id_texts[:count]
    parts[2::4] = lines
    parts[3::4] = [b"\\n" + stamp + form.after + form.before] * count
    if unfinished:
        parts += (id_texts[count], form.between, unfinished, stamp, form.after)
    else:
        parts[-1] = b"\\n" + stamp + form.after
    parts.insert(0, form.before)
    return b"".join(parts)


def run_events(lines: bytes, chunk: Chunk) -> bytes:
    """Encode `lines`, read with `chunk`, as a run's caller gets them: without ids, and without line terminators."""
    texts = json_lines(lines)
    if not texts[-1]:
        texts.pop()
    before = b'data: {"line":"'
    after = b'","timestamp":%d,"stream":"%b"}\n\n' % (chunk.ts_ms, chunk.stream.word.encode())
    return before + (after + before).join(texts) + after


def run_gap_event(chunk: Chunk) -> bytes:
    """Encode a gap as a run's caller gets it."""
    return data_event({"gap": _gap(chunk), "timestamp": chunk.ts_ms, "stream": chunk.stream.word})


def data_event(value: object) -> bytes:
    """Encode an event that has data only."""
    return b"data: %b\n\n" % orjson.dumps(value)


def gap_event(chunk: Chunk) -> bytes:
    """Encode a gap as SSE."""
    return b"id: %d\nevent: gap\ndata: %b\n\n" % (chunk.first_seq, orjson.dumps(_gap(chunk)))


def gap_line(chunk: Chunk) -> bytes:
    """Encode a gap as a line of NDJSON."""
    event = {"id": chunk.first_seq, "gap": _gap(chunk), "timestamp": chunk.ts_ms, "stream": chunk.stream.word}
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def _gap(chunk: Chunk) -> dict[str, object]:
    return {"from": chunk.first_seq, "to": chunk.last_seq, "reason": chunk.gap}


def blocks(data: bytes, line_count: int) -> Iterator[bytes]:
    """Cut `data`, which holds `line_count` lines, after lines: a block makes about `PIECE_BYTES` of events."""
    start = 0
    while start < len(data):
        end = block_end(data, start, line_count)
        yield data[start:end]
        start = end


def block_end(data: bytes, start: int, line_count: int) -> int:
    """Return where the block that starts at `start` ends: after at least one line."""
    average = len(data) // line_count + 1
    size = average * max(1, PIECE_BYTES // (average + _EVENT_BYTES))
    if len(data) - start <= size:
        return len(data)
    return (data.rfind(b"\n", start, start + size) + 1) or (data.find(b"\n", start + size) + 1) or len(data)


class EventCache:
    """Encodes chunks for followers, and keeps the latest results: many followers cost one encoding."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0
        # By handle, first and last id: the chunk's data from that id on. Ids are never reused: no piece
        # goes stale.
        self._pieces: OrderedDict[tuple[int, int, int], _Piece] = OrderedDict()

    def pieces(self, chunk: Chunk) -> Iterator[bytes]:
        """Encode `chunk` as SSE, in pieces of about `PIECE_BYTES` (more if one line is longer)."""
        if chunk.gap:
            yield gap_event(chunk)
            return
        start = 0
        seq = chunk.first_seq
        while seq <= chunk.last_seq:
            piece = self._piece(chunk, start, seq)
            yield piece.events
            start += piece.raw_bytes
            seq += piece.line_count

    def _piece(self, chunk: Chunk, start: int, seq: int) -> "_Piece":
        key = (chunk.handle, seq, chunk.last_seq)
        piece = self._pieces.get(key)
        if piece is not None:
            self._pieces.move_to_end(key)
            return piece
        data = chunk.data[start : block_end(chunk.data, start, chunk.line_count)]
        count = data.count(b"\n") + (not data.endswith(b"\n"))
        piece = _Piece(encode(SSE, chunk, data, range(seq, seq + count)), len(data), count)
        self._pieces[key] = piece
        self.size_bytes += _cost(piece)
        while self.size_bytes > self._max_bytes:
            self.size_bytes -= _cost(self._pieces.popitem(last=False)[1])
        return piece


@dataclass(frozen=True, slots=True)
class _Piece:
    """The events of `line_count` lines, which are `raw_bytes` long in the chunk."""

    events: bytes
    raw_bytes: int
    line_count: int


def _cost(piece: _Piece) -> int:
    return len(piece.events) + _PIECE_OVERHEAD_BYTES

r"""Output as events: Server-Sent Events for followers, NDJSON for readers.

An event is one line of `outlast.model.output`, with its line break if it has one, or a gap. A block of lines is encoded
at once: it is decoded, its line breaks are replaced by a byte that JSON does not escape, the whole becomes one JSON
string, and the string is cut at that byte. This gives 8 M events/s on one core; one `dumps` for each event gives 2 M.
A line ends at "\n" and nowhere else.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import orjson

from outlast.api.event_ids import EOF_SUFFIX
from outlast.core.query.matcher import Matcher, spans_in_text
from outlast.model.output import Chunk, Stream, TrimGap, count_lines, split_lines

PIECE_BYTES = 128 * 1024
"""Approximate size of one write to a reader of stored output."""

FOLLOW_PIECE_BYTES = 24 * 1024
"""Approximate size of one write to a follower: each follower that does not read keeps one piece in memory."""

CACHE_BYTES = 16 * 1024 * 1024
"""Maximum size of the encoded events that are kept for other followers of the same process."""

KEEP_ALIVE = b": keep-alive\n\n"

_PIECE_OVERHEAD_BYTES = 370
"""Memory of a piece in the cache besides its events; more than the events of one short line take."""

_EVENT_BYTES = 96
"""Approximate size of an event besides its line."""

# Each of many followers has its own sequence of many chunks when it does not quite keep up.
_data, _first_seq, _line_count = attrgetter("data"), attrgetter("first_seq"), attrgetter("line_count")

_MARK = "\x7f"  # DEL: one byte, which orjson does not escape
_MARK_BYTE = _MARK.encode()

_WORDS = {stream: stream.word.encode() for stream in Stream}

_LINE_ENDS = tuple((end.encode(), b"\\u%04x" % ord(end)) for end in "\u0085\u2028\u2029")
"""Characters that end a line by Unicode's rules and may stand raw in JSON: their UTF-8, and their escape."""


@dataclass(frozen=True, slots=True)
class Format:
    """Text around the parts of an event: `before` id `between` line `after`."""

    before: bytes
    between: bytes
    after: bytes


SSE = Format(b"id: ", b'\nevent: output\ndata: {"line":"', b"}\n\n")
NDJSON = Format(b'{"id":', b',"line":"', b"}\n")


def json_lines(data: bytes) -> list[bytes]:
    r"""Return each line of `data`, without its "\n", as the inside of a JSON string.

    Bytes that are not UTF-8 become U+FFFD, exactly as if each line were decoded alone: "\n" is never part of a longer
    character. The last item is what follows the last "\n"; it is empty if `data` ends with "\n".
    """
    text = data.decode("utf-8", "replace")
    if _MARK in text:
        return [dumps(line)[1:-1] for line in text.split("\n")]
    return dumps(text.replace("\n", _MARK))[1:-1].split(_MARK_BYTE)


def dumps(value: object, option: int = 0) -> bytes:
    """Return `value` as JSON that is one line to every reader, also to one that splits at Unicode's line ends."""
    text = orjson.dumps(value, option=option)
    for end, escape in _LINE_ENDS:
        if end in text:
            text = text.replace(end, escape)
    return text


def encode_line(chunk: Chunk) -> bytes:
    """Return a chunk of one line as a Server-Sent Event."""
    line = dumps(chunk.data.decode("utf-8", "replace"))
    return b'id: %d\nevent: output\ndata: {"line":%b,"timestamp":%d,"stream":"%b"}\n\n' % (
        chunk.first_seq,
        line,
        chunk.ts_ms,
        _WORDS[chunk.stream],
    )


def encode(form: Format, chunk: Chunk, data: bytes, ids: Sequence[int]) -> bytes:
    """Return `data`, lines of `chunk` whose ids are `ids`, as events."""
    lines = json_lines(data)
    unfinished = lines.pop()
    stamp = b'","timestamp":%d,"stream":"%b"' % (chunk.ts_ms, _WORDS[chunk.stream])
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


def group_events(chunk: Chunk, data: bytes, seq: int, around: tuple[str, str], about: dict[str, object]) -> bytes:
    """Return `data`, lines of `chunk` from number `seq` on, as events of a stream of several processes.

    Args:
        chunk: the chunk.
        data: some of its lines.
        seq: number of the first of them.
        around: text of an event's id before and behind the number of its line.
        about: fields that tell which process it is.
    """
    *lines, last = json_lines(data)
    texts = [line + b"\\n" for line in lines] + ([last] if last else [])
    stamp = dumps({**about, "timestamp": chunk.ts_ms, "stream": chunk.stream.word})[1:-1]
    before, behind = b"id: " + around[0].encode(), around[1].encode() + b'\nevent: output\ndata: {"seq":'
    middle = b"," + stamp + b',"line":"'
    events = [b'%b%d%b%d%b%b"}\n\n' % (before, n, behind, n, middle, text) for n, text in enumerate(texts, seq)]
    return b"".join(events)


def named_event(kind: str, id_: str, data: object) -> bytes:
    """Return an event with a name and an id."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_.encode(), kind.encode(), dumps(data))


def gap_data(chunk: Chunk) -> dict[str, object]:
    """Return the data of a gap."""
    gap: dict[str, object] = {"from": chunk.first_seq, "to": chunk.last_seq, "reason": chunk.gap}
    if isinstance(chunk, TrimGap):
        gap |= {"lines": chunk.trimmed.lines, "bytes": chunk.trimmed.bytes}
    return gap


def run_events(lines: bytes, chunk: Chunk, ids: Sequence[int]) -> bytes:
    """Return `lines`, read with `chunk`, as events of `POST .../run`: without line breaks."""
    texts = json_lines(lines)
    if not texts[-1]:
        texts.pop()
    after = b'","timestamp":%d,"stream":"%b"}\n\n' % (chunk.ts_ms, chunk.stream.word.encode())
    events = [b'id: %d\ndata: {"line":"%b%b' % (id_, text, after) for id_, text in zip(ids, texts, strict=True)]
    return b"".join(events)


def run_gap_event(chunk: Chunk, id_: int) -> bytes:
    """Return a gap as an event of `POST .../run`."""
    return b"id: %d\n%b" % (id_, data_event(_gap_with_time(chunk)))


def data_event(value: object) -> bytes:
    """Return an event without a name, with `value` as its data."""
    return b"data: %b\n\n" % dumps(value)


def eof_event(last_seq: int, status: object) -> bytes:
    """Return the event that ends a stream, after the line or gap with the id `last_seq` (0: none).

    `status`: how the process ended.
    """
    return named_event("eof", f"{last_seq}{EOF_SUFFIX}", status)


def gap_event(chunk: Chunk) -> bytes:
    """Return a gap as a Server-Sent Event."""
    return named_event("gap", str(chunk.last_seq), gap_data(chunk))


def gap_line(chunk: Chunk) -> bytes:
    """Return a gap as a line of NDJSON."""
    return ndjson_line({"id": chunk.last_seq, **_gap_with_time(chunk)})


def marked_lines(chunk: Chunk, data: bytes, ids: Sequence[int], matcher: Matcher) -> bytes:
    """Return `data`, lines of `chunk` whose ids are `ids`, as lines of NDJSON that tell the matches in each."""
    events = []
    for line, id_ in zip(split_lines(data), ids, strict=True):
        event = {"id": id_, "line": line.decode("utf-8", "replace"), "timestamp": chunk.ts_ms}
        spans = spans_in_text(matcher, line.removesuffix(b"\n"))
        events.append(ndjson_line({**event, "stream": chunk.stream.word, "spans": spans}))
    return b"".join(events)


def ndjson_line(value: object) -> bytes:
    """Return `value` as a line of NDJSON."""
    return dumps(value, orjson.OPT_APPEND_NEWLINE)


def _gap_with_time(chunk: Chunk) -> dict[str, object]:
    stream = "both" if isinstance(chunk, TrimGap) else chunk.stream.word
    return {"gap": gap_data(chunk), "timestamp": chunk.ts_ms, "stream": stream}


def blocks(
    data: bytes, line_count: int, piece_bytes: int = PIECE_BYTES, event_bytes: int = _EVENT_BYTES
) -> Iterator[bytes]:
    """Yield `data`, which holds `line_count` lines, in blocks that give about `piece_bytes` of events each.

    `event_bytes`: approximate size of an event besides its line.
    """
    start = 0
    while start < len(data):
        end = _block_end(data, start, line_count, piece_bytes, event_bytes)
        yield data[start:end]
        start = end


def _block_end(data: bytes, start: int, line_count: int, piece_bytes: int, event_bytes: int = _EVENT_BYTES) -> int:
    """Return the end of the block at `start`: at least one line, and about `piece_bytes` of events."""
    average = len(data) // line_count + 1
    size = average * max(1, piece_bytes // (average + event_bytes))
    if len(data) - start <= size:
        return len(data)
    return (data.rfind(b"\n", start, start + size) + 1) or (data.find(b"\n", start + size) + 1) or len(data)


@dataclass(frozen=True, slots=True)
class Piece:
    """Events that are sent in one write. `last_seq` is the id of the last one."""

    events: bytes
    last_seq: int


class EventCache:
    """Encoder of chunks for followers. Its results are cached: followers of the same process share one encoding."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self._last: tuple[Sequence[Chunk], _SharedPieces] = ((), _SharedPieces(iter(())))
        # Keys are a handle and sequence numbers. They are never reused, so a piece never becomes stale.
        self._pieces: OrderedDict[tuple[int, ...], _Cached] = OrderedDict()

    def pieces(self, chunks: Sequence[Chunk]) -> Iterator[Piece]:
        """Yield chunks of one process as pieces of about `FOLLOW_PIECE_BYTES` (more if one line is longer).

        A `TrimGap` may be the first of them only.
        Followers that keep up bring the same sequence one after the other: it is looked at once.
        """
        if chunks is not self._last[0]:
            self._last = chunks, _SharedPieces(self._make_pieces(chunks))
        return iter(self._last[1])

    def _make_pieces(self, chunks: Sequence[Chunk]) -> Iterator[Piece]:
        if isinstance(chunks[0], TrimGap):  # not from the cache: chunks that were there had the same numbers
            yield Piece(gap_event(chunks[0]), chunks[0].last_seq)
            chunks = chunks[1:]
        for group in _groups(chunks) if chunks else ():
            if len(group) == 1:
                yield from self._parts(group[0])
            else:
                yield self._together(group)

    def _parts(self, chunk: Chunk) -> Iterator[Piece]:
        start = 0
        seq = chunk.first_seq
        while seq <= chunk.last_seq:
            key = (chunk.handle, seq, chunk.last_seq)  # the data of the chunk from that id on
            cached = self._get(key) or self._put(key, _encode_part(chunk, start, seq))
            yield cached.piece
            start += cached.raw_bytes
            seq = cached.piece.last_seq + 1

    def _together(self, chunks: Sequence[Chunk]) -> Piece:
        key = (chunks[0].handle, chunks[-1].last_seq, *map(_first_seq, chunks))
        cached = self._get(key)
        if cached is None:
            events = b"".join([_encode_part(chunk, 0, chunk.first_seq).piece.events for chunk in chunks])
            cached = self._put(key, _Cached(Piece(events, chunks[-1].last_seq), 0))
        return cached.piece

    def _get(self, key: tuple[int, ...]) -> "_Cached | None":
        cached = self._pieces.get(key)
        if cached is not None:
            self._pieces.move_to_end(key)
        return cached

    def _put(self, key: tuple[int, ...], cached: "_Cached") -> "_Cached":
        self._pieces[key] = cached
        self.size_bytes += _cost(key, cached)
        while self.size_bytes > self._max_bytes:
            self.size_bytes -= _cost(*self._pieces.popitem(last=False))
        return cached


class _SharedPieces:
    """Pieces for several readers, each of which is made when the first of them asks for it."""

    def __init__(self, source: Iterator[Piece]) -> None:
        self._source = source
        self._made: list[Piece] = []

    def __iter__(self) -> Iterator[Piece]:
        number = 0
        while True:
            if number == len(self._made):
                piece = next(self._source, None)
                if piece is None:
                    return
                self._made.append(piece)
            yield self._made[number]
            number += 1


@dataclass(frozen=True, slots=True)
class _Cached:
    """A cached piece. `raw_bytes`: how much of the chunk's data it covers, if it is a part of one chunk."""

    piece: Piece
    raw_bytes: int


def _groups(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    """Yield groups of chunks that make one piece each, or a single large chunk."""
    if sum(map(len, map(_data, chunks))) + _EVENT_BYTES * sum(map(_line_count, chunks)) <= FOLLOW_PIECE_BYTES:
        yield chunks
        return
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        cost = len(chunk.data) + _EVENT_BYTES * chunk.line_count
        if group and size + cost > FOLLOW_PIECE_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += cost
    yield group


def _encode_part(chunk: Chunk, start: int, seq: int) -> _Cached:
    """Encode one piece of `chunk`, from the line `seq` on, which begins at `start` in its data."""
    if chunk.gap:
        return _Cached(Piece(gap_event(chunk), seq), 0)
    if chunk.line_count == 1:
        return _Cached(Piece(encode_line(chunk), seq), len(chunk.data))
    data = chunk.data[start : _block_end(chunk.data, start, chunk.line_count, FOLLOW_PIECE_BYTES)]
    end = seq + count_lines(data)
    return _Cached(Piece(encode(SSE, chunk, data, range(seq, end)), end - 1), len(data))


def _cost(key: tuple[int, ...], cached: _Cached) -> int:
    return len(cached.piece.events) + _PIECE_OVERHEAD_BYTES + 8 * len(key)

"""Whole lines from chunks that hold parts of them. Plug-ins share these rules; they only find the neighbours."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from outlast.model.output import Chunk, Stream


def with_whole_lines(
    chunk: Chunk,
    *,
    is_continued: Callable[[], bool],
    earlier_parts: Callable[[], Iterable[tuple[int, bytes]]],
    seen_seq: int = 0,
) -> Chunk | None:
    """Return a stored chunk with its first line whole, and without its last line if that goes on in a later chunk.

    Args:
        chunk: the chunk.
        is_continued: tells whether the next chunk of the stream continues a line. Called if the chunk ends within one.
        earlier_parts: returns the parts before the chunk of the line that it continues, in order, each with its number.
        seen_seq: see `ChunkQuery`.

    Returns:
        None if no line is left.
    """
    if chunk.ends_within_line and is_continued():
        if chunk.line_count == 1:
            return None
        end = chunk.data.rfind(b"\n") + 1
        chunk = replace(chunk, data=chunk.data[:end], line_count=chunk.line_count - 1)
    if not chunk.continues:
        return chunk
    parts: list[bytes] = []
    for seq, data in earlier_parts():
        parts.append(data)
        if seq == seen_seq:
            parts.clear()
    return replace(chunk, data=b"".join([*parts, chunk.data]), continues=0)


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers that a chunk, or several chunks in a row, take. `continues` is that of the first chunk."""

    first_seq: int
    line_count: int
    stream: Stream
    is_gap: bool
    continues: int


@dataclass(frozen=True, slots=True)
class End:
    """End of the lines of which a tail is wanted.

    Attributes:
        before: number of the first line, part or gap that is not wanted.
        continues: whether the first chunk of each stream that begins there or later continues a line.
    """

    before: int
    continues: Mapping[Stream, bool]


def find_tail(spans: Iterable[Span], lines: int, end: End | None = None) -> int:
    """Implement `Storage.tail`.

    Args:
        spans: all output of both streams, or of one, that begins before `end`, newest first.
        lines: number of lines that are wanted.
        end: where the lines end; None: with the output.
    """
    missing = lines
    is_continued = dict.fromkeys(Stream, False) if end is None else dict(end.continues)
    newest_first = iter(spans)
    for span in newest_first:
        last_seq = span.first_seq + span.line_count - 1
        if end is not None and last_seq >= end.before:  # only the last line of a span may go on in a later one
            last_seq = end.before - 1
        else:
            last_seq -= is_continued[span.stream]
        is_continued[span.stream] = span.continues > 0
        count = 0 if span.is_gap else last_seq - span.first_seq + 1
        if count >= missing:
            begins_with_part = count == missing > 0 and span.continues > 0
            return _before_parts(newest_first, span) if begins_with_part else last_seq - missing
        missing -= count
    return 0


def _before_parts(older: Iterable[Span], span: Span) -> int:
    """Return the number before the first of the parts that lie directly before `span` and belong to its first line."""
    before = span.first_seq - 1
    for part in older:
        if part.stream is not span.stream:
            break
        before = part.first_seq + part.line_count - 2
        if part.line_count > 1 or not part.continues:
            break
    return before

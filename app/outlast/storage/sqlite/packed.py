"""Packed rows: chunks of both streams, and parts of lines, that follow one another in one row.

The row begins and ends with a whole line in both streams. The data of standard output stand first, then those of
standard error, so a line whose parts were written between other lines is in one piece.

The column `parts` holds `{"stdout_bytes": n, "chunks": [...]}`, with one entry a chunk:

- milliseconds since the chunk before it, for one line of standard output
- `[lines, milliseconds]` for several
- `[lines, milliseconds, 2]` for lines of standard error
- `[lines, milliseconds, stream, bytes]` for a chunk that ends within a line, with the size of its last line
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, compress
from operator import not_

from outlast.model.output import Chunk, Stream

BOTH_STREAMS = 0
"""The column `stream` of a packed row."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk without its position in the streams.

    Attributes:
        part_bytes: bytes of the last line, if that goes on in a later piece; else 0.
        continues: number of the first part of the line that the piece goes on with; 0: it begins with a line.
    """

    first_seq: int
    line_count: int
    stream: Stream
    ts_ms: int
    part_bytes: int
    continues: int


def pieces_of(first_seq: int, parts: str) -> Iterator[Piece]:
    """Yield the pieces of a packed row, from its columns `first_seq` and `parts`. Their times count from its `ts`."""
    return _pieces(first_seq, 0, json.loads(parts)["chunks"])


def single_lines(ts_ms: int, parts: str) -> dict[Stream, list[int]] | None:
    """Return the times of each stream's lines, ascending, from the columns `ts` and `parts` of a packed row.

    Several times as fast as `pieces_of`. None: some chunk is not one whole line, or the clock was set back.
    """
    entries: list[int | list[int]] = json.loads(parts)["chunks"]
    of_stdout = [isinstance(entry, int) for entry in entries]
    if "-" in parts or any(
        entry[0] > 1 or entry[2:] != [Stream.STDERR] for entry in entries if not isinstance(entry, int)
    ):
        return None
    later_ms = [entry if isinstance(entry, int) else entry[1] for entry in entries]
    _, *times_ms = accumulate(later_ms, initial=ts_ms)
    return {
        Stream.STDOUT: list(compress(times_ms, of_stdout)),
        Stream.STDERR: list(compress(times_ms, map(not_, of_stdout))),
    }


def _pieces(first_seq: int, ts_ms: int, entries: Sequence[int | list[int]]) -> Iterator[Piece]:
    line_of = dict.fromkeys(Stream, 0)  # number of the first part of each stream's unfinished line
    for entry in entries:
        lines, later_ms, number, part_bytes = _filled(entry)
        ts_ms += later_ms
        stream = Stream(number)
        continues = line_of[stream]
        yield Piece(first_seq, lines, stream, ts_ms, part_bytes, continues)
        if not part_bytes:
            line_of[stream] = 0
        elif lines > 1 or not continues:
            line_of[stream] = first_seq + lines - 1
        first_seq += lines


def chunks_of_packed(
    *, handle: int, run: int, first_seq: int, ts: int, ends: tuple[int, int], data: bytes, parts: str
) -> list[Chunk]:
    """Return the chunks of a packed row, from its columns.

    `ends` are `stdout_end` and `stderr_end`; `data` are not compressed.
    """
    layout = json.loads(parts)
    stdout_bytes = layout["stdout_bytes"]
    at = {Stream.STDOUT: 0, Stream.STDERR: stdout_bytes}
    stdout_begin, stderr_begin = ends[0] - stdout_bytes, ends[1] - len(data)  # what the offsets in `at` count from
    chunks: list[Chunk] = []
    for piece in _pieces(first_seq, ts, layout["chunks"]):
        begin = end = at[piece.stream]
        for _ in range(piece.line_count - (piece.part_bytes > 0)):
            end = data.index(b"\n", end) + 1
        end += piece.part_bytes
        at[piece.stream] = end
        chunks.append(
            Chunk(
                handle=handle,
                run=run,
                first_seq=piece.first_seq,
                line_count=piece.line_count,
                stream=piece.stream,
                ts_ms=piece.ts_ms,
                stdout_end=stdout_begin + at[Stream.STDOUT],
                stderr_end=stderr_begin + at[Stream.STDERR],
                data=data[begin:end],
                continues=piece.continues,
            )
        )
    return chunks


@dataclass(slots=True)
class Packer:
    """A packed row that is being made, one chunk or row of one stream after another."""

    _stdout: list[bytes] = field(default_factory=list)
    _stderr: list[bytes] = field(default_factory=list)
    _times: list[tuple[int, int, Stream, int]] = field(default_factory=list)

    def add(self, stream: Stream, times: Sequence[tuple[int, int]], data: bytes) -> None:
        """Append chunks of one stream. `times`: the number of lines and the time of each."""
        (self._stdout if stream is Stream.STDOUT else self._stderr).append(data)
        self._times += [(lines, ts_ms, stream, 0) for lines, ts_ms in times]
        if not data.endswith(b"\n"):
            lines, ts_ms = times[-1]
            self._times[-1] = lines, ts_ms, stream, len(data) - data.rfind(b"\n") - 1

    def columns(self) -> tuple[int, str, bytes]:
        """Return the columns `ts`, `parts` and `data`."""
        earliest_ms = before_ms = min(ts_ms for _, ts_ms, _, _ in self._times)
        entries: list[int | list[int]] = []
        for lines, ts_ms, stream, part_bytes in self._times:
            entries.append(_shortened(lines, ts_ms - before_ms, stream, part_bytes))
            before_ms = ts_ms
        stdout = b"".join(self._stdout)
        parts = {"stdout_bytes": len(stdout), "chunks": entries}
        return earliest_ms, json.dumps(parts, separators=(",", ":")), stdout + b"".join(self._stderr)


_DEFAULTS = (1, 0, int(Stream.STDOUT), 0)


def _shortened(lines: int, later_ms: int, stream: Stream, part_bytes: int) -> int | list[int]:
    if part_bytes:
        return [lines, later_ms, int(stream), part_bytes]
    if stream is not Stream.STDOUT:
        return [lines, later_ms, int(stream)]
    return later_ms if lines == 1 else [lines, later_ms]


def _filled(entry: int | list[int]) -> tuple[int, int, int, int]:
    given = [1, entry] if isinstance(entry, int) else entry
    lines, later_ms, stream, part_bytes = [*given, *_DEFAULTS[len(given) :]]
    return lines, later_ms, stream, part_bytes

"""The database file, read with plain SQL: the rows of one process, and what the views show of it."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.plain_sql import register_sqlar_uncompress

WORDS = {1: "stdout", 2: "stderr"}


class Line(NamedTuple):
    """A line, a part of a line, or a gap, by its sequence number. `data` includes the line feed, if there is one.

    `continues`: of a part, if it is not the first of its line, the number of the first; else 0.
    """

    seq: int
    ts_ms: int
    stream: int
    data: bytes
    gap: str | None
    continues: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk: a row of `output_chunk`, or a part of one that was merged, of which only the last has `latest_ts_ms`."""

    first_seq: int
    line_count: int
    stream: int
    ts_ms: int
    latest_ts_ms: int | None
    ends: dict[int, int]
    data: bytes
    gap: str | None
    missing_bytes: int | None
    continues: int

    def lines(self) -> Iterator[Line]:
        if self.gap:
            yield Line(self.first_seq, self.ts_ms, self.stream, b"", self.gap, 0)
        for number, line in enumerate(_lines(self.data)):
            yield Line(self.first_seq + number, self.ts_ms, self.stream, line, None, 0 if number else self.continues)

    def apart(self, parts: list[Any]) -> Iterator["StoredChunk"]:
        """Yield the chunks of a merged row; `parts` is its column of that name."""
        lines, seq, ts_ms = _lines(self.data), self.first_seq, self.ts_ms
        end = self.ends[self.stream] - len(self.data)
        for part in parts:
            count, later_ms = part if isinstance(part, list) else (1, part)
            ts_ms += later_ms
            data, lines = b"".join(lines[:count]), lines[count:]
            end += len(data)
            yield replace(
                self,
                first_seq=seq,
                line_count=count,
                ts_ms=ts_ms,
                latest_ts_ms=None if lines else self.latest_ts_ms,
                ends={**self.ends, self.stream: end},
                data=data,
                continues=self.continues if seq == self.first_seq else 0,
            )
            seq += count

    def unpacked(self, layout: dict[str, Any]) -> Iterator["StoredChunk"]:
        """Yield the chunks of a packed row, as docs/storage.md describes them; `layout` is its column `parts`."""
        size = layout["stdout_bytes"]
        rest = {1: self.data[:size], 2: self.data[size:]}
        ends = {stream: end - len(rest[stream]) for stream, end in self.ends.items()}
        begun = {1: 0, 2: 0}  # the first number of each stream's unfinished line
        seq, ts_ms = self.first_seq, self.ts_ms
        for entry in layout["chunks"]:
            given: list[int] = [1, entry] if isinstance(entry, int) else entry
            count, later_ms, stream, part_bytes = [*given, *[1, 0, 1, 0][len(given) :]]
            ts_ms += later_ms
            end = 0
            for _ in range(count - (part_bytes > 0)):
                end = rest[stream].index(b"\n", end) + 1
            end += part_bytes
            data, rest[stream] = rest[stream][:end], rest[stream][end:]
            ends = {**ends, stream: ends[stream] + len(data)}
            continues = begun[stream]
            is_last = seq + count == self.first_seq + self.line_count
            yield replace(
                self,
                first_seq=seq,
                line_count=count,
                stream=stream,
                ts_ms=ts_ms,
                latest_ts_ms=self.latest_ts_ms if is_last else None,
                ends=ends,
                data=data,
                continues=continues,
            )
            begun[stream] = 0 if not part_bytes else continues if continues and count == 1 else seq + count - 1
            seq += count


def whole(lines: Iterable[Line]) -> list[Line]:
    """Return lines with their parts joined, each where its last part is."""
    joined: dict[int, Line] = {}  # by the number of the first part, in the order of the last ones
    for line in lines:
        if line.continues:
            before = joined.pop(line.continues)
            joined[line.continues] = line._replace(data=before.data + line.data)
        else:
            joined[line.seq] = line
    return list(joined.values())


def _lines(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


class Database:
    """A read-only connection to the database file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        register_sqlar_uncompress(self._db)
        self._db.text_factory = bytes

    def close(self) -> None:
        self._db.close()

    def chunks(self, process_id: str) -> list[StoredChunk]:
        """Return a process's output as it is kept, in the order of its numbers."""
        rows = self._db.execute(
            "SELECT first_seq, line_count, stream, ts, latest_ts, stdout_end, stderr_end, "
            "iif(codec IS NULL, data, sqlar_uncompress(data, raw_bytes)), gap,"
            " missing_bytes, continues, parts FROM output_chunk"
            " WHERE handle = (SELECT handle FROM process WHERE id = ?) ORDER BY first_seq",
            (process_id,),
        )
        chunks: list[StoredChunk] = []
        for *row, parts in rows:
            chunk = StoredChunk(
                first_seq=row[0],
                line_count=row[1],
                stream=row[2],
                ts_ms=row[3],
                latest_ts_ms=row[4],
                ends={1: row[5], 2: row[6]},
                data=row[7],
                gap=row[8].decode() if row[8] else None,
                missing_bytes=row[9],
                continues=row[10],
            )
            layout = json.loads(parts) if parts else None
            if isinstance(layout, dict):
                chunks += chunk.unpacked(layout)
            else:
                chunks += chunk.apart(layout) if layout else [chunk]
        return chunks

    def output_of_runs(self, process_id: str) -> dict[tuple[int, int], bytes]:
        """Return all bytes of a process, by run and stream."""
        rows = self._db.execute(
            "SELECT run, stream, iif(codec IS NULL, data, sqlar_uncompress(data, raw_bytes)),"
            " iif(stream = 0, parts ->> '$.stdout_bytes', NULL) FROM output_chunk"
            " WHERE handle = (SELECT handle FROM process WHERE id = ?) ORDER BY first_seq",
            (process_id,),
        )
        found: dict[tuple[int, int], bytes] = {}
        for run, row_stream, data, stdout_bytes in rows:
            pieces = {1: data[:stdout_bytes], 2: data[stdout_bytes:]} if row_stream == 0 else {row_stream: data}
            for stream, piece in pieces.items():
                if piece or row_stream:
                    found[run, stream] = found.get((run, stream), b"") + piece
        return found

    def shown_lines(self, process_id: str) -> list[tuple[Any, ...]]:
        """Return what the view `output_lines` shows of a process: seq, ts, stream, line."""
        sql = "SELECT seq, ts, stream, line FROM output_lines WHERE process_id = ? ORDER BY seq"
        return self._db.execute(sql, (process_id,)).fetchall()

    def shown_process(self, process_id: str) -> tuple[Any, ...]:
        """Return what the view `processes` shows: exit code, signal, lines, bytes, whether the output is complete."""
        sql = "SELECT exit_code, signal, lines, bytes, output_complete FROM processes WHERE id = ?"
        row: tuple[Any, ...] = self._db.execute(sql, (process_id,)).fetchone()
        return row

    def event_types(self, process_id: str) -> list[str]:
        """Return the types of a process's events, in order."""
        rows = self._db.execute("SELECT type FROM events WHERE process_id = ? ORDER BY id", (process_id,))
        return [row[0].decode() for row in rows]

    def version(self) -> int:
        """Return the version of the schema."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def integrity(self) -> str:
        """Return what SQLite says of the file."""
        (answer,) = self._db.execute("PRAGMA integrity_check").fetchone()
        return str(answer, "utf-8")


@contextlib.contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """Open a database file for reading."""
    database = Database(path)
    try:
        yield database
    finally:
        database.close()

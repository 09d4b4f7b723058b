"""Operators' SQL, in a process of its own: nothing that a query does can hold up, fill or change the store's.

Run as a program, with the standard library only (and zstandard, when it comes to sealed output): `python -I -S ask.py`.
It reads a question as JSON from its standard input and writes the answer there, or an error. What a query may do is
bounded by SQLite (no statement that writes, attaches or configures; lengths) and by the system (memory, size of
temporary files, processor time).
"""

import base64
import json
import os
import resource
import sqlite3
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

MEMORY_BYTES = 1 << 30
TEMPORARY_FILE_BYTES = 1 << 30
MAX_VALUE_BYTES = 16 << 20
MAX_LIKE_PATTERN_BYTES = 200
BUSY_TIMEOUT_S = 5.0

_EXACT = 2**53 - 1  # beyond, a reader of JSON may round
_FRAME_BYTES = 64  # of an answer, around columns and rows
_FIRST_SECOND = 1  # limits on processor time are in whole seconds
_HIDDEN_COLUMN = "encrypted_env"
_RAW_PAGES = "sqlite_dbpage"  # a table of SQLite's own in some builds, which shows what no column does
_REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
_READABLE = """
CREATE TEMP VIEW output_readable AS
SELECT id, handle, run, first_seq, line_count, stream, ts, gap, parts, unseal(data, codec) AS data
FROM main.output_chunk
"""
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_FUNCTION}


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in _READS or (action == sqlite3.SQLITE_FUNCTION and second in _REFUSED_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and first == _RAW_PAGES:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and second == _HIDDEN_COLUMN:
        return sqlite3.SQLITE_IGNORE  # it reads as NULL
    return sqlite3.SQLITE_OK


def _unsealer(packages: str) -> Callable[[bytes, str | None], bytes]:
    """Make the SQL function `unseal(data, codec)`. `packages` is the folder where zstandard is found."""

    def unseal(data: bytes, codec: str | None) -> bytes:
        if codec is None:
            return data
        if packages not in sys.path:
            sys.path.append(packages)
        import zstandard  # noqa: PLC0415 - most questions do without

        return zstandard.ZstdDecompressor().decompress(data)

    return unseal


def _unseal_views(db: sqlite3.Connection) -> None:
    """Let the views of lines show what is sealed: make them again, over a view that unseals."""
    views = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name IN ('output_lines', 'output_tail')")
    db.execute(_READABLE)
    for (sql,) in views.fetchall():
        db.execute(sql.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))


def _open(path: str, packages: str) -> sqlite3.Connection:
    # "ro" could not take part in the log's shared memory after a crash.
    db = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.create_function("unseal", 2, _unsealer(packages), deterministic=True)
    _unseal_views(db)
    db.execute("PRAGMA query_only = ON")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_LIKE_PATTERN_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    db.set_authorizer(_authorize)
    return db


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return str(value)
    if isinstance(value, float) and value - value != 0:  # infinite: JSON has no such number
        return str(value)
    return value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _answer(question: dict[str, Any]) -> bytes:
    cursor = _open(question["path"], question["packages"]).execute(question["query"], question["parameters"])
    if cursor.description is None:
        return _json({"error": "it gives no rows: ask with SELECT, WITH or VALUES"})
    columns = _json([column[0] for column in cursor.description])
    rows: list[bytes] = []
    left = question["max_bytes"] - len(columns) - _FRAME_BYTES
    truncated = False
    for row in cursor:
        if len(rows) == question["max_rows"]:
            truncated = True
            break
        rows.append(_json([_value(value) for value in row]))
        left -= len(rows[-1]) + 1
        if left < 0:
            rows.pop()
            truncated = True
            break
    return b'{"columns":%b,"rows":[%b],"truncated":%b}' % (columns, b",".join(rows), _json(truncated))


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    cpu_s = int(question["timeout_s"]) + _FIRST_SECOND
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (TEMPORARY_FILE_BYTES, TEMPORARY_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _answer(question)
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        answer = _json({"error": str(error)})
    except MemoryError:
        answer = _json({"error": "it needs too much memory"})
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # the connection is not closed: the last to close one writes the log back, which is the store's to do


if __name__ == "__main__":
    main()

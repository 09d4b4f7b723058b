"""The program that runs one of an operator's SQL queries, so that no query can stall, fill or change the store.

It uses the standard library only, and zstandard when a query reads output that an early version compressed. The
daemon sends it the program, and then a request as JSON, over its standard input. The program writes a newline to its
standard output when the query begins, then the answer or an error as JSON. SQLite allows no statement that writes,
attaches or configures, limits lengths, and keeps in memory what it sorts; the system limits memory and processor time.
"""

import base64
import json
import os
import resource
import sqlite3
import sys
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

MEMORY_BYTES = 1 << 30
MAX_VALUE_BYTES = 16 << 20
MAX_LIKE_PATTERN_BYTES = 200
BUSY_TIMEOUT_S = 5.0
BEGIN = b"\n"
"""Bytes that are written when the query begins."""

_EXACT = 2**53 - 1  # a reader of JSON may round larger integers
_FRAME_BYTES = 64  # bytes of an answer around columns and rows
_FIRST_SECOND = 1  # limits on processor time are in whole seconds, so one is added
_HIDDEN_COLUMN = "encrypted_env"
_RAW_PAGES = "sqlite_dbpage"  # a table of some SQLite builds, which shows the file's raw bytes
_REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
_READABLE = """
CREATE TEMP VIEW output_readable AS
SELECT
    id, handle, run, first_seq, line_count, stream, ts, gap, continues, unfinished_bytes, parts,
    decompress(data, codec) AS data, substr(decompress(data, codec), -unfinished_bytes) AS part
FROM main.output_chunk
WHERE first_seq > coalesce((SELECT d.last_seq FROM main.trimmed d WHERE d.handle = output_chunk.handle), 0)
"""
_OF_THE_FILE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_PERM}
_PRIMARY_CODE = 0xFF  # the upper bits of an extended result code hold detail that is not needed
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_FUNCTION}


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in _READS or (action == sqlite3.SQLITE_FUNCTION and second in _REFUSED_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and first == _RAW_PAGES:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and second == _HIDDEN_COLUMN:
        return sqlite3.SQLITE_IGNORE  # the column reads as NULL
    return sqlite3.SQLITE_OK


def _make_decompress(packages: list[str]) -> Callable[[bytes, str | None], bytes]:
    """Return the SQL function `decompress(data, codec)`. `packages`: folders, in one of which is zstandard."""

    def decompress(data: bytes, codec: str | None) -> bytes:
        if codec is None:
            return data
        if codec == "zlib":
            return zlib.decompress(data)
        sys.path[:] = packages
        import zstandard  # noqa: PLC0415 - hardly any store needs it

        return zstandard.ZstdDecompressor().decompress(data)

    return decompress


def _shadow_views(db: sqlite3.Connection) -> None:
    """Create temporary views of lines from their own SQL, over a temporary `output_readable` that decompresses."""
    views = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name IN ('output_lines', 'output_tail')")
    db.execute(_READABLE)
    for (sql,) in views.fetchall():
        db.execute(sql.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))


def _open_store(path: str, packages: list[str]) -> sqlite3.Connection:
    # "ro" could not take part in the log's shared memory after a crash.
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.execute("PRAGMA temp_store = MEMORY")
    db.create_function("decompress", 2, _make_decompress(packages), deterministic=True)
    db.create_function("sqlar_uncompress", 2, lambda data, _: zlib.decompress(data), deterministic=True)
    _shadow_views(db)
    db.execute("PRAGMA query_only = ON")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_LIKE_PATTERN_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    db.set_authorizer(_authorize)
    return db


def _to_json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return str(value)
    if isinstance(value, float) and value - value != 0:  # JSON has no infinite numbers
        return str(value)
    return value


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _run_query(request: dict[str, Any]) -> bytes:
    db = _open_store(request["path"], request["packages"])
    sys.stdout.buffer.write(BEGIN)
    sys.stdout.buffer.flush()
    cursor = db.execute(request["query"], request["parameters"])
    if cursor.description is None:
        return _dump({"error": "the statement returns no rows: use SELECT, WITH or VALUES"})
    columns = _dump([column[0] for column in cursor.description])
    rows: list[bytes] = []
    left = request["max_bytes"] - len(columns) - _FRAME_BYTES
    truncated = False
    for row in cursor:
        if len(rows) == request["max_rows"]:
            truncated = True
            break
        rows.append(_dump([_to_json_value(value) for value in row]))
        left -= len(rows[-1]) + 1
        if left < 0:
            rows.pop()
            truncated = True
            break
    return b'{"columns":%b,"rows":[%b],"truncated":%b}' % (columns, b",".join(rows), _dump(truncated))


def main() -> None:
    """Run the query that standard input asks for."""
    request = json.load(sys.stdin)
    cpu_s = int(request["timeout_s"]) + _FIRST_SECOND
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _run_query(request)
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        is_about_the_file = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _OF_THE_FILE
        answer = _dump({"error": f"{error}: {request['path']}" if is_about_the_file else str(error)})
    except MemoryError:
        answer = _dump({"error": "the query needs too much memory"})
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # the connection stays open: closing the last one checkpoints, which only the writer may do


if __name__ == "__main__":
    main()

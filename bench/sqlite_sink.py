"""A program that only stores its standard input in SQLite: `python -m bench.sqlite_sink FILE`.

The program keeps the most expensive promise of Outlast: stored output survives a loss of power, and any program can
read it by SQL. Processes, times, lines, numbers and followers are left out.
"""

import contextlib
import fcntl
import os
import sqlite3
import sys

_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 256 << 10
_COMMIT_BYTES = 8 << 20
_LOG_BYTES = 64 << 20
_PAGE_BYTES = 16 << 10  # as Outlast has them, as all of these


def store(source: int, file: str) -> None:
    """Store the bytes of a pipe until it ends."""
    fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -32768")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_BYTES // _PAGE_BYTES}")
        db.execute("CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        ended = False
        while not ended:
            db.execute("BEGIN")
            left = _COMMIT_BYTES
            while left > 0 and not ended:
                chunk = _read(source)
                ended = not chunk
                left -= len(chunk)
                db.execute("INSERT INTO chunk (data) VALUES (?)", (chunk,))
            db.execute("COMMIT")


def _read(source: int) -> bytes:
    """Read a whole chunk, or less at the end of the pipe."""
    parts = []
    left = _CHUNK_BYTES
    while left and (part := os.read(source, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    store(0, sys.argv[1])

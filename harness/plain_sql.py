"""The SQL function that Python's SQLite lacks, and the `sqlite3` command has."""

import sqlite3
import zlib


def register_sqlar_uncompress(db: sqlite3.Connection) -> None:
    """Give a connection the function with which the views of lines read compressed rows, as docs/storage.md says."""
    db.create_function("sqlar_uncompress", 2, lambda data, _: zlib.decompress(data), deterministic=True)

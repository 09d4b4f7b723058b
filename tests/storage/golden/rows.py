"""Rows of several chunks, compressed and not. `python -m tests.storage.golden.rows` makes the file of today's version.

As with `history`, a file is made once and never again: what it holds must be readable for ever.
"""

import gzip
import tempfile
from contextlib import closing
from pathlib import Path

from outlast.model.output import Chunk, Stream
from outlast.storage.base import CompleteOutput
from outlast.storage.sqlite import migrate
from outlast.storage.sqlite.commit import commit
from outlast.storage.sqlite.connection import open_writer
from outlast.storage.sqlite.maintenance.compaction import apply_compaction, plan_compaction
from outlast.testing.storage.samples import EPOCH_MS, Output
from tests.storage.golden import history
from tests.storage.stores import commit_each, compress_all


def together() -> list[Chunk]:
    """Return the chunks of one commit: two streams, a line in parts, and a last line without an end."""
    output = Output(1)
    return [
        output.chunk(b"one\n", ts_ms=EPOCH_MS + 10),
        output.chunk(b"two\n\xff\xfe\n", ts_ms=EPOCH_MS + 10),
        output.chunk(b"three\n", ts_ms=EPOCH_MS + 5),  # the clock was set back
        output.chunk(b"error\n", Stream.STDERR, ts_ms=EPOCH_MS + 20),
        output.gap(7, ts_ms=EPOCH_MS + 21),
        *(output.chunk(b"%d\n" % n * (1 + n % 3), ts_ms=EPOCH_MS + 30 + n) for n in range(20)),
        output.chunk("half \N{PILE OF POO}".encode(), ts_ms=EPOCH_MS + 60),
        output.chunk(b"error\n", Stream.STDERR, ts_ms=EPOCH_MS + 61),
        output.chunk(b" and its rest\nlast", ts_ms=EPOCH_MS + 62, continues=True),
        output.chunk(b" words", ts_ms=EPOCH_MS + 63, continues=True),
    ]


def one_by_one() -> list[Chunk]:
    """Return chunks that came one per commit, and were merged, then compressed."""
    output = Output(2)
    return [output.chunk(b"GET /%d 200\n" % n, ts_ms=EPOCH_MS + 1000 * n) for n in range(200)]


def large() -> list[Chunk]:
    """Return chunks that are compressed and were never merged."""
    output = Output(4)
    return [output.chunk(b"%d bottles\n" % n * 4000, Stream(1 + n % 2), ts_ms=EPOCH_MS + n) for n in range(3)]


def make(path: Path) -> None:
    """Make a store with all that: the first as it came, the others compressed."""
    with closing(open_writer(path, durable=True)) as db:
        commit(db, history.processes())
        commit_each(db, one_by_one())
        commit(db, [CompleteOutput(2, 1), *large(), CompleteOutput(4, 1)])
        for handle in (2, 4):
            while plan := plan_compaction(db, handle, min_rows=2, for_pages=False):
                apply_compaction(db, [plan])
        compress_all(db)
        commit(db, together())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "outlast.db"
        make(made)
        target = history.FOLDER / f"rows-{len(migrate.migrations())}.db.gz"
        target.write_bytes(gzip.compress(made.read_bytes(), mtime=0))

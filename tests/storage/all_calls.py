"""A program for test_sqlite_temporary: it commits a start that failed and a purge, sorts, and prints `done`."""

import asyncio
import sys
from pathlib import Path

from outlast.model.output import Stream
from outlast.model.process import Run
from outlast.model.sql import SqlQuery
from outlast.storage.base import BeginRun, Change, CompleteOutput, PurgeProcess, WithdrawProcess
from outlast.storage.sqlite import SqliteStorage
from outlast.testing.storage.samples import EPOCH_MS, Output, added, end_of, new_process
from tests.storage.stores import sqlite_storage

_SORT = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
SELECT max(t) FROM (SELECT hex(zeroblob(200)) || i AS t FROM n ORDER BY t)
"""


async def _change(storage: SqliteStorage) -> None:
    failed, purged = new_process(team="a"), await added(storage, new_process(name="web", team="a"))
    output = Output(purged)
    runs: list[Change] = [
        change
        for number in range(2, 200)
        for change in (
            end_of(purged, run=number - 1),
            BeginRun(purged, Run(number=number, pid=7, started_at_ms=EPOCH_MS)),
        )
    ]
    await storage.commit([failed, *runs])
    await storage.commit([output.chunk(b"x" * 3000 + b"\n", Stream(n % 2 + 1)) for n in range(500)])
    await storage.commit([WithdrawProcess(failed.spec.id)])
    await storage.commit([CompleteOutput(purged, 199), PurgeProcess(purged)])
    await storage._cleanup.wait_idle()


async def main(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    try:
        await _change(storage)
        await storage.sql(SqlQuery(query=_SORT))
    finally:
        await storage.close()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

"""A child process for test_sqlite_faults: it commits batches for ever, and prints the number of each committed one.

With `compaction` as its second argument, its lines are small, and merged at once. With `compression`, its lines are
large, and compressed at once.
"""

import asyncio
import sys
from pathlib import Path

from outlast.model.process import ProcessQuery
from outlast.storage.base import Change, PurgeProcess
from outlast.testing.storage.samples import Output, added, new_process
from tests.storage.stores import EagerStorage, sqlite_storage

KEPT = 3


async def main(path: Path, *, eager: bool, compresses: bool) -> None:
    storage = EagerStorage(path, lease_s=0, compresses=compresses) if eager else sqlite_storage(path)
    await storage.open()
    while len(await storage.processes(ProcessQuery(tags={"kept": "yes"}))) < KEPT:
        await added(storage, new_process(kept="yes"))
    outputs = [
        Output(entry.process.handle, entry.position)
        for entry in await storage.unfinished()
        if "kept" in entry.process.spec.tags
    ]
    number = outputs[0].position.last_seq
    while True:
        number += 1
        # the log reaches its limit every fifty batches
        line = b"%d " % number + b"x" * (150_000 if compresses else 100 if eager else 100_000) + b"\n"
        passing = await added(storage)
        changes: list[Change] = [output.chunk(line) for output in outputs]
        await storage.commit([Output(passing).chunk(line), *changes])
        await storage.commit([PurgeProcess(passing)])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), eager=len(sys.argv) > 2, compresses="compression" in sys.argv))

"""A child process for test_sqlite_faults: commits batches for ever, and says on stdout which are committed."""

import asyncio
import sys

from app.model.process import ProcessQuery
from app.storage.base import Change, PurgeProcess
from app.storage.registry import storage_from_url
from app.testing.samples import Output, added, new_process

KEPT = 3


async def main(url: str) -> None:
    storage = storage_from_url(url)
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
        line = b"%d " % number + b"x" * 100_000 + b"\n"  # the log reaches its limit every fifty batches
        passing = await added(storage)
        changes: list[Change] = [output.chunk(line) for output in outputs]
        await storage.commit([Output(passing).chunk(line), *changes])
        await storage.commit([PurgeProcess(passing)])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

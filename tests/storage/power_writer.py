"""A child process for test_power_loss: it commits batches for ever, and prints the number of each committed one."""

import asyncio
import hashlib
import sys

from outlast.model.process import ProcessQuery
from outlast.storage.base import Change, PurgeProcess
from outlast.storage.registry import storage_from_url
from outlast.testing.storage.samples import Output, added, new_process

KEPT = 3
_PURGE_EVERY = 8


def line(batch: int, handle: int) -> bytes:
    """Return the line that a process writes in a batch: up to about 400 KB, determined by batch and handle."""
    digest = hashlib.sha256(b"%d %d" % (batch, handle)).hexdigest().encode()
    return b"%d %s\n" % (batch, digest * (int(digest[:4], 16) % (50, 6000)[batch % 4 == 0] + 1))


async def main(url: str, durable: str) -> None:
    storage = storage_from_url(url, durable=durable == "durable")
    await storage.open()
    while len(await storage.processes(ProcessQuery(tags={"kept": "yes"}))) < KEPT:
        await added(storage, new_process(kept="yes"))
    outputs = [
        Output(entry.process.handle, entry.position)
        for entry in await storage.unfinished()
        if "kept" in entry.process.spec.tags
    ]
    batch = outputs[0].position.last_seq
    while True:
        batch += 1
        changes: list[Change] = [output.chunk(line(batch, output.handle)) for output in outputs]
        if batch % _PURGE_EVERY == 0:
            passing = await added(storage)
            await storage.commit([Output(passing).chunk(line(batch, passing)), *changes])
            await storage.commit([PurgeProcess(passing)])
        else:
            await storage.commit(changes)
        sys.stdout.write(f"{batch}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""The program that `outlast.testing.storage.durability` runs: it commits batches, and says so or is killed."""

import asyncio
import functools
import importlib
import os
import signal
import sys
from pathlib import Path

from outlast.storage.base import Storage
from outlast.testing.storage.samples import Output, added, end_of, new_process

BATCHES = 4
ANSWER = "answered"


async def _write(storage: Storage, *, is_killed: bool) -> None:
    await storage.open()
    output = Output(await added(storage, new_process(key="durable")))
    for number in range(1, BATCHES + 1):
        last = [end_of(output.handle)] if number == BATCHES else []
        await storage.commit([output.chunk(b"%d\n" % number), *last])
        if is_killed and last:
            os.kill(os.getpid(), signal.SIGKILL)  # between the commit and its answer
        os.write(1, f"{ANSWER} {number}\n".encode())
    await storage.close()


def main(module: str, name: str, folder: str, how: str) -> None:
    """Write with the storage of a plug-in's test class. `how`: `killed` or `answered`."""
    suite = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    asyncio.run(_write(suite().make_storage(Path(folder)), is_killed=how == "killed"))  # type: ignore[operator]


if __name__ == "__main__":
    main(*sys.argv[1:])

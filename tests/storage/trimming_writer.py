"""A child process for test_sqlite_trimming: it commits output and trims it for ever, and prints what is committed.

A line holds the number of the last line, and the number up to which output may be gone.
"""

import asyncio
import sys
from pathlib import Path

from outlast.testing.storage.samples import Output, added
from tests.storage.stores import sqlite_storage
from tests.storage.test_sqlite_trimming import KEPT_LINES, line_of, trim_of


async def main(path: Path) -> None:
    storage = sqlite_storage(path)
    await storage.open()
    unfinished = await storage.unfinished()
    output = Output(1, unfinished[0].position) if unfinished else Output(await added(storage))
    while True:
        number = output.position.last_seq + 1
        await storage.commit([output.chunk(line_of(number))])
        upto = max(0, number - KEPT_LINES)
        sys.stdout.write(f"{number} {upto}\n")
        sys.stdout.flush()
        if number % KEPT_LINES == 0:
            await storage.commit([trim_of(upto)])
            await storage._cleanup.wait_idle()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

"""The yardstick of reading: `python -m bench.fileserver FILE`, aiohttp's own way to send a file. Prints its port."""

import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web


async def _serve(path: Path) -> None:
    async def send(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    app = web.Application()
    app.router.add_get("/", send)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    # Not uvloop, which can't let the kernel copy the file (sendfile): this is the faster of the two.
    asyncio.run(_serve(Path(sys.argv[1])))

"""A file server, the yardstick of reading: `python -m bench.fileserver (kernel|copy) FILE`. It prints its port.

`kernel` sends the file with sendfile, as aiohttp does by itself. `copy` reads each piece and writes it to the client,
as a program must that inspects or changes the bytes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from aiohttp import web

_PIECE_BYTES = 256 << 10


def _sender(how: str, path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    headers = {"Content-Type": "application/octet-stream"}
    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size

    async def send(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=headers)

    async def copy(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = size
        await response.prepare(request)
        place = 0
        while piece := os.pread(file, _PIECE_BYTES, place):
            await response.write(piece)
            place += len(piece)
        return response

    return {"kernel": send, "copy": copy}[how]


async def _serve(how: str, path: Path) -> None:
    app = web.Application()
    app.router.add_get("/", _sender(how, path))
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
    # uvloop has no sendfile: each way runs on the loop that is faster for it.
    (uvloop.run if sys.argv[1] == "copy" else asyncio.run)(_serve(sys.argv[1], Path(sys.argv[2])))

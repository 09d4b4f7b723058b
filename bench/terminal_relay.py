"""A relay from a terminal to a websocket, a yardstick: `python -m bench.terminal_relay PROGRAM ...`.

The relay prints its port, accepts one client, starts the program in a terminal, and forwards both ways, without a
store, a token or a second client.
"""

import asyncio
import contextlib
import os
import sys

import uvloop
from aiohttp import WSMsgType, web

_READ_BYTES = 64 << 10


async def _serve(argv: list[str]) -> None:
    ended = asyncio.Event()

    async def attach(request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(compress=False)
        await client.prepare(request)
        master, slave = os.openpty()
        program = await asyncio.create_subprocess_exec(
            *argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(master, False)
        typing = asyncio.create_task(_type(client, master))
        with contextlib.suppress(OSError):  # nobody has the terminal open any more
            await _show(client, master)
        await program.wait()
        await client.close()
        typing.cancel()
        ended.set()
        return client

    app = web.Application()
    app.router.add_get("/", attach)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await ended.wait()
    await runner.cleanup()


async def _show(client: web.WebSocketResponse, master: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(master, readable.set)
    try:
        while True:
            try:
                data = os.read(master, _READ_BYTES)
            except BlockingIOError:
                readable.clear()
                await readable.wait()
            else:
                await client.send_bytes(b"\0" + data)
                await asyncio.sleep(0)
    finally:
        loop.remove_reader(master)


async def _type(client: web.WebSocketResponse, master: int) -> None:
    async for message in client:
        if message.type is WSMsgType.BINARY and message.data[:1] == b"\0":
            os.write(master, message.data[1:])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        running.run(_serve(sys.argv[1:]))

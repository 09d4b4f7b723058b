"""The physical yardstick of the latency: `python -m bench.relay PROGRAM ...`, from a pipe to a socket and nothing else.

Prints its port, takes one connection, starts the program, and passes on what it writes. No framing, no store.
"""

import asyncio
import os
import sys

import uvloop


class _Pipe(asyncio.Protocol):
    """Passes on what comes."""

    def __init__(self, out: asyncio.StreamWriter) -> None:
        self._out = out
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._out.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the end is the end
        self.ended.set()


async def _relay(argv: list[str]) -> None:
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _reader, writer: connected.set_result(writer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    out = await connected
    read_end, write_end = os.pipe()
    program = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=write_end)
    os.close(write_end)
    try:
        _transport, pipe = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Pipe(out), os.fdopen(read_end, "rb", 0)
        )
        await pipe.ended.wait()
        await program.wait()
    finally:
        if program.returncode is None:
            program.kill()
    out.close()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_relay(sys.argv[1:]))

"""A relay from a pipe to a socket, the yardstick of latency: `python -m bench.relay PROGRAM ...`.

The relay prints its port, accepts one connection, starts the program, and forwards its output, without framing or
store. With `--sync FILE` before the program, each piece is first appended to the file and synced: the least that a
promise to have stored a line costs.
"""

import asyncio
import os
import sys

import uvloop


class _Pipe(asyncio.Protocol):
    """A forwarder of a pipe, which first appends to the file `log`, if there is one."""

    def __init__(self, out: asyncio.StreamWriter, log: int | None) -> None:
        self._out = out
        self._log = log
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        if self._log is not None:
            os.write(self._log, data)
            os.fdatasync(self._log)
        self._out.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the end is the end
        self.ended.set()


async def _relay(argv: list[str], log: int | None) -> None:
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _reader, writer: connected.set_result(writer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    out = await connected
    read_end, write_end = os.pipe()
    program = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=write_end)
    os.close(write_end)
    try:
        _transport, pipe = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Pipe(out, log), os.fdopen(read_end, "rb", 0)
        )
        await pipe.ended.wait()
        await program.wait()
    finally:
        if program.returncode is None:
            program.kill()
    out.close()
    server.close()


def _main() -> None:
    argv, log = sys.argv[1:], None
    if argv[0] == "--sync":
        log = os.open(argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        argv = argv[2:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_relay(argv, log))


if __name__ == "__main__":
    _main()

"""A relay between a client and the daemon that keeps a copy of all that the client is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class Wiretap:
    """Stands between clients and a daemon. `heard` is all that the daemon has sent through it."""

    def __init__(self, url: str) -> None:
        self.url = ""
        self.heard = b""
        self._upstream = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()

    def has_sent(self, data: bytes) -> bool:
        """Tell whether the daemon has sent `data` through this relay."""
        return data in self.heard

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection in both directions, until either side ends it."""
        up_reader, up_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        self._writers |= {writer, up_writer}

        async def upwards() -> None:
            while data := await reader.read(1 << 16):
                up_writer.write(data)
            up_writer.close()

        async def downwards() -> None:
            while data := await up_reader.read(1 << 16):
                self.heard += data
                writer.write(data)
            writer.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(upwards(), downwards())

    def close(self) -> None:
        """Break off what is still connected."""
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def wiretap(url: str) -> AsyncIterator[Wiretap]:
    """Listen in front of the daemon at `url`; `Wiretap.url` is for the client."""
    tap = Wiretap(url)
    server = await asyncio.start_server(tap.serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        tap.url = f"http://{host}:{port}"
        try:
            yield tap
        finally:
            tap.close()

"""A terminal, inside an event loop. `sync_terminal.py` is made of this file by `make fix`: change this one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from outlast.client.async_session import AsyncSession
from outlast.client.async_socket import AsyncLock, AsyncSocket
from outlast.client.attachment import Attachment
from outlast.client.errors import Disconnected, ProcessGone


class AsyncTerminal:
    """A client of the terminal of a process: it sees what the program shows, and types.

    While its connection is broken, what is typed is kept; what was on its way when it broke may be lost, and is never
    typed twice. Sizes are those of the client's screen: the terminal has the size of the client that typed last.
    """

    def __init__(self, session: AsyncSession, attachment: Attachment) -> None:
        self._session = session
        self._attachment = attachment
        self._socket: AsyncSocket | None = None
        self._lock = AsyncLock()
        self._is_closed = False

    async def output(self) -> AsyncGenerator[bytes, None]:
        """Yield what the terminal shows: first what makes its screen, then each piece that comes.

        It ends with the program, and by `close`. No byte is missing and none comes twice, whatever happens to the
        daemon, except what a limit has deleted.

        Raises:
            NotFound: the process has no terminal, or has ended a while ago.
        """
        attachment = self._attachment
        while not self._is_over():
            try:
                async with aclosing(self._connection()) as pieces:
                    async for piece in pieces:
                        yield piece
            except Disconnected as error:
                if not self._is_over():
                    attachment.broke(error)
            except ProcessGone:  # it ended while nothing was connected
                return
            if not self._is_over():
                await asyncio.sleep(attachment.pause_s)

    def _is_over(self) -> bool:
        return self._is_closed or self._attachment.is_over

    async def _connection(self) -> AsyncGenerator[bytes, None]:
        """Yield what comes over one connection."""
        attachment = self._attachment
        async with self._session.open_socket(attachment.request()) as socket:
            if not attachment.opened(socket.status, socket.headers, socket.body):
                return
            async with self._lock:
                await socket.send(attachment.first_frames())
                self._socket = socket
            try:
                while not self._is_over():
                    for piece in attachment.feed(await socket.receive()):
                        yield piece
                    await self._answer(socket)
                    attachment.check()
            finally:
                self._socket = None

    async def _answer(self, socket: AsyncSocket) -> None:
        answer, self._attachment.answer = self._attachment.answer, b""
        if answer and not self._lock.locked():  # what is being sent says as well that we are there
            async with self._lock:
                await socket.send(answer)

    async def send(self, data: str | bytes) -> None:
        """Type. Returns when it is on its way to the daemon, which takes it as fast as the program reads.

        Raises:
            Disconnected: nothing is connected, and more than a MiB was typed meanwhile.
        """
        frames = self._attachment.typed(data.encode() if isinstance(data, str) else data)
        async with self._lock:
            if self._socket is None:
                self._attachment.keep(frames)
                return
            with suppress(Disconnected):  # `output` connects again
                await self._socket.send(frames)

    async def resize(self, rows: int, cols: int) -> None:
        """Say which size our screen has."""
        async with self._lock:
            frames = self._attachment.sized(rows, cols)
            if self._socket is not None:
                with suppress(Disconnected):  # the next connection tells it
                    await self._socket.send(frames)

    async def close(self) -> None:
        """Leave: `output` ends, and the program goes on."""
        self._is_closed = True
        socket = self._socket
        if socket is not None:
            await socket.close()

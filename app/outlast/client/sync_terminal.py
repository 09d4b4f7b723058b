"""A terminal. Made of `async_terminal.py` by `make fix`: change that one."""

import time
from collections.abc import Generator
from contextlib import closing, suppress

from outlast.client.attachment import Attachment
from outlast.client.errors import Disconnected, ProcessGone
from outlast.client.sync_session import Session
from outlast.client.sync_socket import Lock, Socket


class Terminal:
    """A client of the terminal of a process: it sees what the program shows, and types.

    While its connection is broken, what is typed is kept; what was on its way when it broke may be lost, and is never
    typed twice. Sizes are those of the client's screen: the terminal has the size of the client that typed last.
    """

    def __init__(self, session: Session, attachment: Attachment) -> None:
        self._session = session
        self._attachment = attachment
        self._socket: Socket | None = None
        self._lock = Lock()
        self._is_closed = False

    def output(self) -> Generator[bytes, None]:
        """Yield what the terminal shows: first what makes its screen, then each piece that comes.

        It ends with the program, and by `close`. No byte is missing and none comes twice, whatever happens to the
        daemon, except what a limit has deleted.

        Raises:
            NotFound: the process has no terminal, or has ended a while ago.
        """
        attachment = self._attachment
        while not self._is_over():
            try:
                with closing(self._connection()) as pieces:
                    yield from pieces
            except Disconnected as error:
                if not self._is_over():
                    attachment.broke(error)
            except ProcessGone:  # it ended while nothing was connected
                return
            if not self._is_over():
                time.sleep(attachment.pause_s)

    def _is_over(self) -> bool:
        return self._is_closed or self._attachment.is_over

    def _connection(self) -> Generator[bytes, None]:
        """Yield what comes over one connection."""
        attachment = self._attachment
        with self._session.open_socket(attachment.request()) as socket:
            if not attachment.opened(socket.status, socket.headers, socket.body):
                return
            with self._lock:
                socket.send(attachment.first_frames())
                self._socket = socket
            try:
                while not self._is_over():
                    yield from attachment.feed(socket.receive())
                    self._answer(socket)
                    attachment.check()
            finally:
                self._socket = None

    def _answer(self, socket: Socket) -> None:
        answer, self._attachment.answer = self._attachment.answer, b""
        if answer and not self._lock.locked():  # what is being sent says as well that we are there
            with self._lock:
                socket.send(answer)

    def send(self, data: str | bytes) -> None:
        """Type. Returns when it is on its way to the daemon, which takes it as fast as the program reads.

        Raises:
            Disconnected: nothing is connected, and more than a MiB was typed meanwhile.
        """
        frames = self._attachment.typed(data.encode() if isinstance(data, str) else data)
        with self._lock:
            if self._socket is None:
                self._attachment.keep(frames)
                return
            with suppress(Disconnected):  # `output` connects again
                self._socket.send(frames)

    def resize(self, rows: int, cols: int) -> None:
        """Say which size our screen has."""
        with self._lock:
            frames = self._attachment.sized(rows, cols)
            if self._socket is not None:
                with suppress(Disconnected):  # the next connection tells it
                    self._socket.send(frames)

    def close(self) -> None:
        """Leave: `output` ends, and the program goes on."""
        self._is_closed = True
        socket = self._socket
        if socket is not None:
            socket.close()

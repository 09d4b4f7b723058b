"""A client of a terminal without a connection: what to ask for next, and what comes of the bytes that arrive."""

from collections.abc import Mapping
from urllib.parse import quote

from outlast.client.errors import Disconnected
from outlast.client.frames import BINARY, CLOSE, PING, PONG, BadFrameError, Frame, Frames, frame, upgrade
from outlast.client.request import Request
from outlast.client.subscription import OnReconnect, Subscription

SILENT_S = 20.0
"""Time without a byte, four pings, after which a connection counts as broken."""
MAX_KEPT_BYTES = 1 << 20
"""Bytes of input that are kept while nothing is connected."""

_TYPED, _SIZE, _READY = b"\0", b"\1", b"\2"
_PIECE_BYTES = 1 << 19
_OUTPUT, _POSITION = 0, 4
_OVER = {1000, 1001}
_OK, _SWITCHED = 200, 101


class Attachment(Subscription[bytes]):
    """The output of a terminal, to its end. A broken connection is made again behind the last byte that has come.

    Attributes:
        answer: frames that what has come asks for.
    """

    def __init__(self, process_id: str, give_up_after_s: float | None, on_reconnect: OnReconnect | None) -> None:
        super().__init__(give_up_after_s, on_reconnect)
        self._process_id = process_id
        self._is_placed = False
        self._screen = b""
        self._frames = Frames()
        self._size = b""
        self._kept = b""
        self._problem = ""
        self.answer = b""

    def request(self) -> Request:
        """Return the request of the next connection. The first one shows the screen, and tells where it ends."""
        self._frames, self._screen, self.answer, self._problem = Frames(), b"", b"", ""
        query = {"after": self.last} if self._is_placed else {"positions": True}
        path = f"/pty/{quote(self._process_id, safe='')}/ws"
        return Request("GET", path, query, headers=upgrade(), silent_s=SILENT_S)

    def opened(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether the connection has become a websocket. See `Subscription.opened`."""
        return super().opened(_OK if status == _SWITCHED else status, headers, body)

    def first_frames(self) -> bytes:
        """Return what a new connection begins with: the size, that we are ready, and what was kept."""
        kept, self._kept = self._kept, b""
        return (frame(self._size) if self._size else b"") + frame(_READY) + kept

    def feed(self, data: bytes) -> list[bytes]:
        """Return the output in `data`."""
        try:
            found = [self._take(each) for each in self._frames.feed(data)]
        except BadFrameError as exc:
            self._problem = str(exc)
            return []
        output = [piece for piece in found if piece]
        if output:
            self._progressed()
        return output

    def check(self) -> None:
        """Check that the connection goes on, after its output was taken.

        Raises:
            Disconnected: the daemon closes it, although the program goes on.
        """
        if self._problem:
            raise Disconnected(self._problem, sent=True)

    def _take(self, each: Frame) -> bytes:
        if each.opcode == PING:
            self.answer += frame(each.data, PONG)
        elif each.opcode == CLOSE:
            self.answer += frame(each.data[:2], CLOSE)
            self.is_over = each.close_code in _OVER
            self._problem = "" if self.is_over else f"the daemon closed the connection: {each.reason}"
        elif each.opcode == BINARY and each.data[:1] == bytes([_OUTPUT]):
            if not self._is_placed:  # without its position, a screen is shown again by the next connection
                self._screen += each.data[1:]
                return b""
            self.last += len(each.data) - 1
            return each.data[1:]
        elif each.opcode == BINARY and each.data[:1] == bytes([_POSITION]):
            self.last, self._is_placed = int.from_bytes(each.data[1:], "big"), True
            screen, self._screen = self._screen, b""
            return screen
        return b""

    def typed(self, data: bytes) -> bytes:
        """Return the frames that type `data`."""
        pieces = (data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES))
        return b"".join(frame(_TYPED + piece) for piece in pieces)

    def sized(self, rows: int, cols: int) -> bytes:
        """Return the frame that says which size our screen has, as later connections will."""
        self._size = _SIZE + cols.to_bytes(2, "big") + rows.to_bytes(2, "big")
        return frame(self._size)

    def keep(self, frames: bytes) -> None:
        """Keep what was typed for the next connection.

        Raises:
            Disconnected: that is too much.
        """
        if len(self._kept) + len(frames) > MAX_KEPT_BYTES:
            raise Disconnected("nothing is connected, and too much was typed meanwhile: the rest is lost", sent=False)
        self._kept += frames

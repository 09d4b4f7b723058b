"""One client of a terminal, over a websocket.

Each message is binary, and its first byte is its kind. A client sends 0 and what is typed, 1 and the size of its screen
(columns and rows, 16 bits each), 2 when it is ready for output. The server sends 0 and output, 3 and the exit code
(32 bits), and, if the client asked for it, 4 and a position (64 bits). Numbers are big-endian. All other messages are
passed over.
"""

import asyncio
import contextlib
import logging
import struct
import time

from aiohttp import WSCloseCode, WSMsgType, web

from outlast.api.streaming.websockets import CLOSE_S, Close, closing, first_done
from outlast.core.terminals.reader import TerminalReader
from outlast.core.terminals.sessions import Session, Sessions
from outlast.model.errors import Interrupted, NoAnswer, NotRunning, OutlastError, StdinNotWritable, Unavailable

MAX_MESSAGE_BYTES = 1 << 20
"""Maximum size of a message from a client."""
PIECE_BYTES = 60 << 10
"""Size of what is sent or typed in one go."""
MAX_TYPED_BYTES = 1 << 20
"""Bytes of input that wait for the terminal, from which nothing more is read from the client."""
MAX_MESSAGES_PER_S = 1000
"""Maximum number of messages without input in a second."""
PING_S = 5.0
"""Time between two pings. One of the official clients gives up after 10 s without a message."""
SILENCE_S = 35.0
"""Time after which a client is given up that answers no ping, counted from the last that was sent or came."""

_TYPED, _SIZE, _READY = 0, 1, 2
_OUTPUT, _EXIT, _POSITION = b"\0", struct.Struct(">Bi"), struct.Struct(">BQ")
_SIZE_FORM = struct.Struct(">HH")
_TURN_MESSAGES = 32
"""Number of messages after which other tasks have their turn."""
_RETRY_S = 0.2

_log = logging.getLogger(__name__)


_TERMINATED = Close(WSCloseCode.GOING_AWAY, "session terminated")
_TOO_MANY = Close(WSCloseCode.POLICY_VIOLATION, "message rate limit exceeded")
_FAILED = Close(WSCloseCode.INTERNAL_ERROR, "the daemon has failed; its log has the details")


class TerminalSocket:
    """A client of a terminal."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        sessions: Sessions,
        session: Session,
        stopping: asyncio.Event,
    ) -> None:
        """`socket`: prepared, and otherwise unused. `stopping`: set when the daemon stops."""
        self._request = request
        self._socket = socket
        self._sessions = sessions
        self._session = session
        self._stopping = stopping
        self._ready = asyncio.Event()
        self._typed = bytearray()
        self._has_typed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._size: tuple[int, int] | None = None
        self._alive_at = time.monotonic()
        self._tells_positions = False

    async def serve(self, after: int | None, *, tells_positions: bool) -> None:
        """Serve the client until it or the session ends, or the daemon stops.

        Args:
            after: how many bytes of output it has. None: none, and it is shown the screen.
            tells_positions: whether it is told the position at the beginning, and where output is missing.
        """
        self._tells_positions = tells_positions
        done = await first_done(self._receive(), self._type(), self._ping(), self._show(after), closing(self._stopping))
        close = self._result(done)
        if close is not None:
            await self._close(close)

    def _result(self, task: asyncio.Task[Close | None]) -> Close | None:
        """Return how to close the connection. None: it is over."""
        try:
            return task.result()
        except ConnectionError:
            return None
        except Exception:  # noqa: BLE001 - a response that has begun; logged with its traceback
            _log.exception("the connection of a client to the terminal %s failed", self._session.process.spec.id)
            return _FAILED

    async def _close(self, how: Close) -> None:
        try:
            async with asyncio.timeout(2 * CLOSE_S):
                await self._socket.close(code=how.code, message=how.reason.encode())
        except (TimeoutError, ConnectionError):
            self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _ping(self) -> None:
        while time.monotonic() - self._alive_at < SILENCE_S:
            await asyncio.sleep(PING_S)
            await self._socket.ping()
        self._abort()

    # ---- what the client sends

    async def _receive(self) -> Close | None:
        count, idle_count, since = 0, 0, time.monotonic()
        while True:
            message = await self._socket.receive()
            self._alive_at = time.monotonic()
            if self._alive_at - since >= 1:
                idle_count, since = 0, self._alive_at
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\0":
                await self._take_typed(message.data)
            elif message.type is WSMsgType.BINARY:
                self._obey(message.data)
                idle_count += 1
            elif message.type in {WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG}:
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                idle_count += 1
            else:
                return None
            if idle_count > MAX_MESSAGES_PER_S:
                return _TOO_MANY
            count += 1
            if count % _TURN_MESSAGES == 0:
                await asyncio.sleep(0)

    def _obey(self, data: bytes) -> None:
        """Do what a message without input says."""
        if data[:1] == bytes([_SIZE]) and len(data) == 1 + _SIZE_FORM.size:
            cols, rows = _SIZE_FORM.unpack_from(data, 1)
            self._size = rows, cols
            self._sessions.resize(self._session, rows, cols)
        elif data[:1] == bytes([_READY]):
            self._ready.set()

    async def _take_typed(self, data: bytes) -> None:
        """Queue input. Wait while there is too much: then the client's network has to."""
        if self._size is not None:  # of several clients, the one that types has the terminal in its size
            self._sessions.resize(self._session, *self._size)
        typed = memoryview(data)[1:]
        if not self._typed:
            typed = typed[self._sessions.type_now(self._session, typed) :]
        if not typed:
            return
        self._typed += typed
        self._has_typed.set()
        if len(self._typed) >= MAX_TYPED_BYTES:
            self._has_room.clear()
            await self._has_room.wait()

    async def _type(self) -> None:
        while True:
            await self._has_typed.wait()
            piece = bytes(self._typed[:PIECE_BYTES])
            if await self._write(piece):
                del self._typed[: len(piece)]
            if not self._typed:
                self._has_typed.clear()
            if len(self._typed) < MAX_TYPED_BYTES:
                self._has_room.set()

    async def _write(self, piece: bytes) -> bool:
        """Type a piece. False: nothing was typed, and it has to be repeated."""
        try:
            await self._sessions.write(self._session, piece)
        except (NotRunning, StdinNotWritable):
            pass  # nobody reads it any more
        except (Interrupted, NoAnswer):
            pass  # it may have been typed: a key that is pressed again by itself would be worse than one that is lost
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
            return False
        finally:
            self._alive_at = time.monotonic()  # as long as it waits for the terminal, it is not asked for anything
        return True

    # ---- what the client is sent

    async def _show(self, after: int | None) -> Close:
        await self._ready.wait()
        with self._sessions.reading(self._session) as reader:
            await self._begin(reader, after)
            while True:
                before = reader.offset
                data = await self._read(reader)
                if data:
                    if reader.offset - len(data) != before:
                        await self._tell_position(reader.offset - len(data))
                    await self._send(data)
                elif reader.has_ended():
                    break
                else:
                    await reader.wait()
            return await self._send_exit(reader)

    async def _begin(self, reader: TerminalReader, after: int | None) -> None:
        while True:
            try:
                if after is None:
                    screen, may_lack = await reader.show_screen()
                    break
                await reader.seek(after)
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
            else:
                await self._tell_position(reader.offset)
                return
        await self._send(screen)
        await self._tell_position(reader.offset)
        if may_lack:
            self._sessions.ask_to_repaint(self._session)

    async def _tell_position(self, offset: int) -> None:
        if self._tells_positions:
            await self._socket.send_bytes(_POSITION.pack(4, offset))

    async def _read(self, reader: TerminalReader) -> bytes:
        while True:
            try:
                return await reader.read()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            await self._socket.send_bytes(_OUTPUT + data[start : start + PIECE_BYTES])
            self._alive_at = time.monotonic()
            if len(data) >= PIECE_BYTES:
                await asyncio.sleep(0)

    async def _send_exit(self, reader: TerminalReader) -> Close:
        ending = None
        with contextlib.suppress(OutlastError):
            ending = await reader.ending()
        number = None if ending is None else ending.exit_number
        if number is None:  # nobody knows how it ended
            return _TERMINATED
        await self._socket.send_bytes(_EXIT.pack(3, number))
        return Close(WSCloseCode.OK, f"exit:{number}")

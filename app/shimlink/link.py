"""One connection to the shim: commands with answers, output and events as they come."""

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

from app.model.errors import NotRunning, OutlastError, ProtocolError, ShimUnavailable, StdinNotWritable
from app.model.output import Position, Stream
from app.shim.linux import pidfd_open
from app.shim.spawn import Command
from app.shim.wire import (
    PROTOCOL_VERSION,
    Decoder,
    MessageType,
    WireError,
    decode_greeting,
    decode_output,
    encode_greeting,
    encode_json,
    encode_mark,
    encode_stdin,
)

log = logging.getLogger(__name__)

_RECEIVE_BYTES = 1 << 20
_GREETING_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ShimProcess:
    """A process that the shim looks after, as it tells on connecting.

    Attributes:
        record: what `spawn` was given.
        stdout_from: offset of the first byte of standard output that the shim still has.
        stderr_from: the same of standard error.
    """

    slot: int
    record: Mapping[str, Any]
    pid: int
    started_at_ms: int
    stdin_open: bool
    stdout_from: int
    stderr_from: int


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that has just been started. Its output comes once it is attached."""

    slot: int
    pid: int
    started_at_ms: int


class SpawnRefused(OutlastError):
    """The system could not start it: `stage` (app.shim.spawn.Stage) and `errno` say where and why."""

    def __init__(self, stage: int, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.stage = stage
        self.errno = errno


class ShimEvents(Protocol):
    """What a link tells its owner, from the event loop, in the order in which it came."""

    def on_output(self, slot: int, stream: Stream, ts_ms: int, offset: int, data: bytes) -> None:
        """Bytes were read at `ts_ms`; `offset` counts within the stream. No data: the stream has ended."""

    def on_exited(self, slot: int, code: int | None, signal_number: int | None, ts_ms: int) -> None:
        """The process itself has ended. Told again after every `attach`."""

    def on_stdin_closed(self, slot: int) -> None:
        """Its standard input is no longer writable."""

    def on_found(self, process: ShimProcess) -> None:
        """A start that another daemon had asked for has come to its end after this one was greeted."""

    def on_link_lost(self) -> None:
        """The connection is gone, unless `close` was called."""


class ShimLink(asyncio.BufferedProtocol):
    """Use `open`. One daemon is attached to a shim at a time; a new one takes over."""

    def __init__(self, events: ShimEvents, settings: Mapping[str, int]) -> None:
        self._events = events
        self._settings = settings
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._requests = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shim_pid = 0
        self.inventory: list[ShimProcess] = []

    @classmethod
    async def open(
        cls, sock: socket.socket, events: ShimEvents, *, room_bytes: int, total_room_bytes: int
    ) -> "ShimLink":
        """Greet the shim at the other end of `sock` and take over its processes.

        Raises:
            ProtocolError: it speaks another version; nothing was touched.
            ShimUnavailable: it does not answer.
        """
        sock.setblocking(False)
        settings = {"room_bytes": room_bytes, "total_room_bytes": total_room_bytes}
        loop = asyncio.get_running_loop()
        _transport, link = await loop.create_unix_connection(lambda: cls(events, settings), sock=sock)
        try:
            await asyncio.wait_for(link.greeted, _GREETING_TIMEOUT_S)
        except TimeoutError:
            link.close()
            raise ShimUnavailable("the shim does not answer its socket") from None
        except BaseException:
            link.close()
            raise
        return link

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Leave the shim alone with its processes; what it reads from now on waits for the next daemon."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    # ---- commands

    async def spawn(self, record: Mapping[str, Any], command: Command) -> Spawned:
        """Start a process. `record` is kept for the inventory; its `id` is the process's.

        Raises:
            SpawnRefused: the system could not start it, and nothing of it is left.
            ShimUnavailable: the link is down.
        """
        answer = await self._ask(MessageType.SPAWN, {"record": record, "command": asdict(command)})
        if "error" in answer:
            raise SpawnRefused(answer["stage"], answer["errno"])
        return Spawned(answer["slot"], answer["pid"], answer["started_at_ms"])

    def attach(self, slot: int, position: Position) -> None:
        """Ask for the output from `position` on, for the process's end, and for what comes.

        This and the next three say nothing when the link is down: whoever takes the shim up next begins from the store.
        """
        self._tell(encode_mark(MessageType.ATTACH, slot, position.stdout_end, position.stderr_end))

    def acknowledge(self, slot: int, position: Position) -> None:
        """Say that everything up to `position` is stored."""
        self._tell(encode_mark(MessageType.ACK, slot, position.stdout_end, position.stderr_end))

    def forget(self, slot: int) -> None:
        """Say that the end of a process is stored, or that it is no longer wanted."""
        self._tell(encode_json(MessageType.FORGET, {"slot": slot}))

    def rebase(self, slot: int, position: Position) -> None:
        """Let what the shim still has of a slot begin at `position`: the store does not have what came before."""
        self._tell(encode_mark(MessageType.REBASE, slot, position.stdout_end, position.stderr_end))

    async def signal(self, slot: int, number: int) -> None:
        """Send a signal to the process's group.

        Raises:
            NotRunning: it has ended.
            PermissionError: the system refuses.
        """
        answer = await self._ask(MessageType.SIGNAL, {"slot": slot, "signal": number})
        if answer.get("error") == "ended":
            raise NotRunning("the process has ended")
        if "error" in answer:
            raise PermissionError(answer["errno"], os.strerror(answer["errno"]), signal.strsignal(number))

    async def kill(self, process_id: str) -> None:
        """SIGKILL everything that the process has started, also if it has ended itself."""
        await self._ask(MessageType.KILL, {"id": process_id})

    async def write_stdin(self, slot: int, data: bytes) -> None:
        """Return when all of `data` is in the pipe, however long that takes.

        Raises:
            NotRunning: the process ended meanwhile.
            StdinNotWritable: its standard input is closed.
        """
        request = next(self._requests)
        answer = await self._wait(request, encode_stdin(request, slot, data))
        if answer.get("error") == "ended":
            raise NotRunning("the process ended before it had read all of its input")
        if "error" in answer:
            raise StdinNotWritable("the process's standard input is closed")

    async def close_stdin(self, slot: int) -> None:
        """Close its standard input behind what is already on the way."""
        await self._ask(MessageType.CLOSE_STDIN, {"slot": slot})

    async def end_shim(self) -> bool:
        """Ask the shim to end, and wait until it has; an init's waits for us. False: it still looks after processes."""
        pidfd = pidfd_open(self.shim_pid)
        try:
            self._closing = True  # before it is asked: its going may be seen before its answer
            answer = await self._ask(MessageType.EXIT, {})
            self._closing = bool(answer["ended"])
            if self._closing and not answer["waits"]:
                await _readable(pidfd)
        finally:
            os.close(pidfd)
        return self._closing

    async def _ask(self, kind: MessageType, fields: Mapping[str, Any]) -> dict[str, Any]:
        request = next(self._requests)
        return await self._wait(request, encode_json(kind, {"request": request, **fields}))

    async def _wait(self, request: int, message: bytes) -> dict[str, Any]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        try:
            self._write(message)
            return await future
        finally:
            self._waiting.pop(request, None)

    def _tell(self, message: bytes) -> None:
        if self.connected:
            self._write(message)

    def _write(self, message: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise ShimUnavailable("the shim is not connected")
        self._transport.write(message)

    # ---- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Room for the next bytes."""
        return self._decoder.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the messages that are complete."""
        self._decoder.filled(nbytes)
        try:
            for kind, payload in self._decoder.messages():
                self._on_message(kind, payload)
        except WireError:
            log.exception("the shim sent what is not a message; dropping the connection")
            self.abort()

    def eof_received(self) -> bool:
        """Close our end, too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits, and tell the owner."""
        self._transport = None
        error = ShimUnavailable("the connection to the shim was lost")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        if not self.greeted.done():
            self.greeted.set_exception(error)
        elif not self._closing:
            log.warning("the connection to the shim was lost: %s", exc)
            self._events.on_link_lost()

    def abort(self) -> None:
        """Drop a connection that went wrong; the owner hears `on_link_lost`."""
        if self._transport is not None:
            self._transport.abort()

    def _on_message(self, kind: MessageType, payload: memoryview) -> None:
        if kind is MessageType.OUTPUT:
            slot, stream, ts_ms, offset, data = decode_output(payload)
            self._events.on_output(slot, Stream(stream), ts_ms, offset, data)
        elif kind is MessageType.GREETING:
            self._on_greeting(payload)
        elif kind is MessageType.INVENTORY_END:
            self.greeted.set_result(None)
        else:
            self._on_json(kind, json.loads(bytes(payload)))

    def _on_greeting(self, payload: memoryview) -> None:
        version, rest = decode_greeting(payload)
        if version != PROTOCOL_VERSION:
            self._closing = True
            self.greeted.set_exception(
                ProtocolError(
                    f"the running shim speaks version {version} of the protocol, this daemon version "
                    f"{PROTOCOL_VERSION}: nothing was touched; serve with the version of Outlast that started it"
                )
            )
            self.abort()
            return
        self.shim_pid = json.loads(bytes(rest))["pid"]
        self._write(encode_greeting(PROTOCOL_VERSION, self._settings))

    def _on_inventory(self, process: ShimProcess) -> None:
        if self.greeted.done():
            self._events.on_found(process)
        else:
            self.inventory.append(process)

    def _on_json(self, kind: MessageType, message: Any) -> None:
        if kind is MessageType.REPLY:
            future = self._waiting.get(message["request"])
            if future is not None and not future.done():
                future.set_result(message)
        elif kind is MessageType.EXITED:
            self._events.on_exited(message["slot"], message.get("code"), message.get("signal"), message["ts_ms"])
        elif kind is MessageType.STDIN_CLOSED:
            self._events.on_stdin_closed(message["slot"])
        elif kind is MessageType.INVENTORY:
            self._on_inventory(ShimProcess(**message))
        else:
            raise WireError(f"{kind.name} is not the shim's to send")


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        loop.remove_reader(fd)
        ready.set_result(None)

    loop.add_reader(fd, on_ready)
    await ready

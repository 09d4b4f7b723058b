"""One connection to the shim: commands with answers, output and events as they come."""

import asyncio
import errno
import itertools
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.failpoints import failpoint
from outlast.linux.process import pidfd_open
from outlast.model.errors import NotRunning, ProtocolError, ShimUnavailable, StdinNotWritable
from outlast.model.output import Position, Stream
from outlast.shimlink.channel import Channel
from outlast.shimlink.events import GreetingCut, ShimEvents, ShimLost, ShimProcess, Spawned, SpawnRefused
from outlast.shimlink.held_process import HeldProcess
from outlast.wire.codec import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    decode_output,
    encode_greeting,
    encode_json,
    encode_mark,
    encode_stdin,
)
from outlast.wire.contract import Command, Stage

log = logging.getLogger(__name__)

_GREETING_TIMEOUT_S = 10.0
_ANSWER_S = 10.0


class ShimLink:
    """Use `open`. One daemon is attached to a shim at a time; a new one takes over.

    Attributes:
        greeted: done when the shim has told all that it looks after.
        inventory: what it has told.
        is_silent: it has left a request without an answer, and has said nothing since.
    """

    def __init__(self, sock: socket.socket, events: ShimEvents, settings: Mapping[str, int]) -> None:
        self._events = events
        self._settings = settings
        self._requests = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._channel = Channel(sock, self._on_message, self._on_lost)
        self._closing = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shim_pid = 0
        self.is_silent = False
        self.inventory: list[ShimProcess] = []

    @classmethod
    async def open(cls, sock: socket.socket, events: ShimEvents, settings: Mapping[str, int]) -> "ShimLink":
        """Greet the shim at the other end of `sock` and take over its processes.

        Raises:
            ProtocolError: it speaks another version; nothing was touched.
            GreetingCut: it died meanwhile.
            ShimUnavailable: it does not answer.
        """
        link = cls(sock, events, settings)
        try:
            await asyncio.wait_for(link.greeted, _GREETING_TIMEOUT_S)
        except TimeoutError:
            link.close()
            raise ShimUnavailable("the shim does not answer its socket") from None
        except ShimUnavailable as exc:
            found, link.inventory = link.inventory, []
            link.close()
            raise GreetingCut(str(exc), found) from None
        except BaseException:
            link.close()
            raise
        return link

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return self._channel.is_open

    def close(self) -> None:
        """Leave the shim alone with its processes; what it reads from now on waits for the next daemon."""
        self._closing = True
        self._channel.close()
        self._fail_waiting()
        for process in self.inventory:
            process.held.close()
        self.inventory.clear()

    # ---- commands

    async def spawn(self, record: Mapping[str, Any], command: Command, begins_at: Position) -> Spawned:
        """Fork a process, which does nothing before it is attached. `record` is kept for the inventory.

        `begins_at`: its output continues that of an earlier run, which ended there.

        Raises:
            SpawnRefused: the system could not start it, and nothing of it is left.
            ShimUnavailable: the link is down, and nothing runs.
        """
        if self.is_silent:
            raise ShimUnavailable("the shim does not answer: is it stopped? Nothing runs, try again")
        request = next(self._requests)
        future = self._wait_for(request)
        message = {
            "request": request,
            "record": record,
            "command": command._asdict(),
            "begins_at": [begins_at.stdout_end, begins_at.stderr_end],
        }
        self._channel.write(encode_json(MessageType.SPAWN, message))
        failpoint("start-asked")
        answer = await self._answer(future)
        if "error" in answer:
            raise SpawnRefused(answer["stage"], answer["errno"])
        return Spawned(answer["slot"], answer["held"])

    async def adopt(self, record: Mapping[str, Any], held: HeldProcess, ending: Mapping[str, int] | None) -> int:
        """Hand a process over whose shim is no more, and return its slot.

        Args:
            record: as in `spawn`.
            held: what this daemon has of it; it keeps it.
            ending: how it ended, if that is known; see `HeldProcess.handover`.
        """
        described, fds = held.handover(ending)
        request = next(self._requests)
        message = {"request": request, "record": record, "fds": len(fds), **described}
        future = self._wait_for(request)
        self._channel.write(encode_json(MessageType.ADOPT, message), fds)
        slot: int = (await self._answer(future))["slot"]
        return slot

    def attach(self, slot: int, position: Position) -> None:
        """Ask for the output from `position` on, for the process's end, and for what comes.

        This and the next two say nothing when the link is down: whoever takes the shim up next begins from the store.
        """
        self._channel.write(encode_mark(MessageType.ATTACH, slot, position.stdout_end, position.stderr_end))

    def acknowledge(self, slot: int, position: Position) -> None:
        """Say soon that everything up to `position` is stored."""
        self._channel.mark(slot, encode_mark(MessageType.ACK, slot, position.stdout_end, position.stderr_end))

    def forget(self, slot: int) -> None:
        """Say that the end of a process is stored, or that it is no longer wanted."""
        self._channel.write(encode_json(MessageType.FORGET, {"slot": slot}))

    async def signal(self, slot: int, number: int, scope: str = "group") -> None:
        """Send a signal to the process's group, or another `scope` (`outlast.model.process.SignalScope`).

        Raises:
            NotRunning: it has ended.
            PermissionError: the system refuses.
        """
        answer = await self._ask(MessageType.SIGNAL, {"slot": slot, "signal": number, "scope": scope})
        if answer.get("error") == "ended":
            raise NotRunning("the process has ended")
        if "error" in answer:
            raise PermissionError(answer["errno"], os.strerror(answer["errno"]), signal.strsignal(number))

    async def kill(self, process_id: str) -> bool:
        """SIGKILL everything that the process has started, also if it has ended itself. Ask again until it is gone.

        Returns:
            Whether nothing of it is left.
        """
        answer = await self._ask(MessageType.KILL, {"id": process_id})
        return bool(answer["gone"])

    async def sweep(self, process_ids: Sequence[str]) -> None:
        """SIGKILL what may be left of processes that no shim looks after any more."""
        await self._ask(MessageType.SWEEP, {"ids": process_ids})

    async def write_stdin(self, slot: int, data: bytes) -> None:
        """Return when all of `data` is in the pipe, however long that takes.

        Raises:
            NotRunning: the process ended meanwhile.
            StdinNotWritable: its standard input is closed.
        """
        request = next(self._requests)
        future = self._wait_for(request)
        self._channel.write(encode_stdin(request, slot, data))
        answer = await future
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
        future = self._wait_for(request)
        self._channel.write(encode_json(kind, {"request": request, **fields}))
        return await self._answer(future)

    async def _answer(self, future: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """Wait for what a shim answers at once, if it can."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await future
        except TimeoutError:
            self.is_silent = True
            raise ShimUnavailable("the shim does not answer: is it stopped? Try again when it goes on") from None

    def _wait_for(self, request: int) -> asyncio.Future[dict[str, Any]]:
        if not self.connected:
            raise ShimUnavailable("the shim is not connected")
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        future.add_done_callback(lambda _future: self._waiting.pop(request, None))
        return future

    # ---- what comes

    def _on_lost(self, why: Exception) -> None:
        self._fail_waiting()
        if not self.greeted.done():
            self.greeted.set_exception(ShimUnavailable(f"the connection to the shim was lost: {why}"))
        elif not self._closing:
            log.warning("the connection to the shim was lost: %s", why)
            self._events.on_link_lost()

    def _fail_waiting(self) -> None:
        for future in tuple(self._waiting.values()):
            if not future.done():
                future.set_exception(ShimLost("the connection to the shim was lost"))

    def abort(self, why: Exception) -> None:
        """Drop a connection that went wrong; the owner hears `on_link_lost`."""
        self._channel.abort(why)

    def _on_message(self, kind: MessageType, payload: memoryview) -> None:
        self.is_silent = False
        if kind is MessageType.OUTPUT:
            slot, stream, ts_ms, offset, size = decode_output(payload)
            self._events.on_output(slot, Stream(stream), ts_ms, offset, size)
        elif kind is MessageType.GREETING:
            self._on_greeting(payload)
        elif kind is MessageType.INVENTORY_END:
            if not self.greeted.done():
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
            self._channel.close()
            return
        self.shim_pid = json.loads(bytes(rest))["pid"]
        self._channel.write(encode_greeting(PROTOCOL_VERSION, self._settings))

    def _on_inventory(self, message: Mapping[str, Any]) -> None:
        held = HeldProcess.of(message, self._channel.take_fds(message["fds"]))
        self.inventory.append(ShimProcess(message["slot"], message["record"], held))

    def _on_starting(self, message: Mapping[str, Any]) -> None:
        future = self._waiting.get(message["request"])
        answer: dict[str, Any]
        try:
            held = HeldProcess.of(message, self._channel.take_fds(message["fds"]))
        except OSError as exc:
            log.error("a start fails: %s", exc)  # noqa: TRY400 - the sentence says it all
            self.forget(message["slot"])
            answer = {"error": "spawn", "stage": Stage.SETUP, "errno": errno.EMFILE}
        else:
            answer = {"slot": message["slot"], "held": held}
        if future is not None and not future.done():
            future.set_result(answer)
        elif "held" in answer:  # nobody waits for it any more: its gate stays shut
            answer["held"].close()
            self.forget(message["slot"])

    def _on_json(self, kind: MessageType, message: Any) -> None:
        if kind is MessageType.REPLY:
            future = self._waiting.get(message["request"])
            if future is not None and not future.done():
                future.set_result(message)
        elif kind is MessageType.STARTING:
            self._on_starting(message)
        elif kind is MessageType.STARTED:
            self._events.on_started(message["slot"], message["deadline_ms"])
        elif kind is MessageType.FAILED:
            self._events.on_failed(message["slot"], message["stage"], message["errno"])
        elif kind is MessageType.EXITED:
            self._events.on_exited(message["slot"], message)
        elif kind is MessageType.STDIN_CLOSED:
            self._events.on_stdin_closed(message["slot"])
        elif kind is MessageType.INVENTORY:
            self._on_inventory(message)
        else:
            raise WireError(f"{kind.name} is not the shim's to send")


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        loop.remove_reader(fd)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, on_ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)

"""One connection to the shim: commands and their answers, output and events as they come."""

import asyncio
import errno
import itertools
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from outlast.failpoints import failpoint
from outlast.linux.process import has_ended, pidfd_open
from outlast.model.errors import (
    InvalidRequest,
    NoAnswer,
    NotRunning,
    OutlastError,
    OutOfResources,
    ProtocolError,
    ShimUnavailable,
    StdinNotWritable,
)
from outlast.model.output import Position, Stream
from outlast.model.shortage import shortage
from outlast.shimlink.channel import Channel
from outlast.shimlink.conversation import check_version
from outlast.shimlink.events import (
    GreetingCut,
    KillOutcome,
    NotSent,
    ShimEvents,
    ShimLost,
    ShimProcess,
    ShimUsage,
    Spawned,
    SpawnRefused,
)
from outlast.shimlink.held_process import HeldProcess
from outlast.wire.api_socket import ApiSocket
from outlast.wire.codec import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    decode_output,
    decode_position,
    encode_greeting,
    encode_json,
    encode_position,
    encode_stdin,
)
from outlast.wire.contract import TERMINAL_FEATURE, USAGE_FEATURE, Command, Stage
from outlast.wire.description import ProcessDescription

log = logging.getLogger(__name__)

_STREAMS = {stream.value: stream for stream in Stream}
_GREETING_TIMEOUT_S = 10.0
_ANSWER_S = 10.0
_LOOK_AGAIN_S = 0.005
_LOG_INTERVAL_S = 60.0


class _Request(NamedTuple):
    """A request that waits for its answer. `number`: see `Channel.write`."""

    future: asyncio.Future[dict[str, Any]]
    number: int


class ShimLink:
    """A link to the shim; make it by `open`. A shim serves one daemon at a time; a new one takes over.

    Attributes:
        greeted: done when the shim has described all its processes.
        inventory: the processes that it has described.
        problem: a sentence of the shim that says which output it cannot read now, and why. None: it can read all.
        is_silent: whether the shim has left a request without an answer, and has sent nothing since.
    """

    def __init__(
        self, sock: socket.socket, events: ShimEvents, settings: Mapping[str, int], api_sockets: Sequence[ApiSocket]
    ) -> None:
        self._events = events
        self._settings = settings
        self._api_sockets = api_sockets
        self._requests = itertools.count(1)
        self._waiting: dict[int, _Request] = {}
        self._channel = Channel(sock, self._on_message, self._on_lost)
        self._closing = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shim_pid = 0
        self.shim_version = ""
        self._features: Sequence[str] = ()
        self._problem_logged_at = -_LOG_INTERVAL_S
        self.is_silent = False
        self.problem: str | None = None
        self.inventory: list[ShimProcess] = []

    @classmethod
    async def open(
        cls, sock: socket.socket, events: ShimEvents, settings: Mapping[str, int], api_sockets: Sequence[ApiSocket]
    ) -> "ShimLink":
        """Greet the shim at the other end of `sock`, and receive its inventory.

        Raises:
            ProtocolError: the shim speaks another version of the protocol. Nothing has changed.
            OutOfResources: this daemon has too few descriptors for what the shim has.
            GreetingCut: the shim died meanwhile.
            ShimUnavailable: the shim does not answer.
        """
        link = cls(sock, events, settings, api_sockets)
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
        return self._channel.is_writable

    def close(self) -> None:
        """Close the connection. The shim keeps its processes, and their output for the next daemon."""
        self._closing = True
        self._channel.close()
        self._fail_requests()
        for process in self.inventory:
            if not process.taken:
                process.held.close()
        self.inventory.clear()

    # ---- commands

    async def spawn(self, record: Mapping[str, Any], command: Command, begins_at: Position) -> Spawned:
        """Fork a process, which waits at its gate until it is attached.

        Args:
            record: the daemon's own description of the process, which the shim keeps for its inventory.
            command: the program.
            begins_at: where the output of the earlier run ended, which this one continues.

        Raises:
            SpawnRefused: the system could not start the process, and nothing of it is left.
            ShimUnavailable: the link is down, and the program does not run.
            InvalidRequest: the shim is of a version that has no terminals.
        """
        if self.is_silent:
            raise ShimUnavailable("the shim does not answer: is it stopped? The process was not started; try again")
        fields = command._asdict()
        if command.terminal is None:
            del fields["terminal"]  # older shims do not know it
        elif TERMINAL_FEATURE not in self._features:
            raise InvalidRequest(
                f"the running shim, of version {self.shim_version}, has no terminals: bring it up to date with "
                "`outlast shim upgrade`"
            )
        request = next(self._requests)
        message = {
            "request": request,
            "record": record,
            "command": fields,
            "begins_at": [begins_at.stdout_end, begins_at.stderr_end],
        }
        future = self._ask(request, encode_json(MessageType.SPAWN, message))
        failpoint("start-asked")
        answer = await self._wait_for_answer(future)
        if "error" in answer:
            raise SpawnRefused(answer["stage"], answer["errno"])
        return Spawned(answer["slot"], answer["held"])

    async def adopt(self, record: Mapping[str, Any], held: HeldProcess, exited: Mapping[str, int] | None) -> int:
        """Hand over a process whose shim has died, and return its slot.

        Args:
            record: as in `spawn`.
            held: what this daemon holds of the process, and continues to hold.
            exited: its exit, if the daemon knows it; see `HeldProcess.describe`.
        """
        description, fds = held.describe(exited)
        request = next(self._requests)
        message = {"request": request, "record": record, "fds": len(fds), **description.to_json()}
        future = self._ask(request, encode_json(MessageType.ADOPT, message), fds)
        slot: int = (await self._wait_for_answer(future))["slot"]
        return slot

    def attach(self, slot: int, position: Position) -> None:
        """Open the process's gate, and ask for its output from `position` on, its exit, and all later events.

        `on_attached` tells when they begin: what comes before was sent for an earlier `attach`.

        This method and the next two do nothing when the link is down: the next link begins from the store's position.
        """
        self._channel.write(encode_position(MessageType.ATTACH, slot, position.stdout_end, position.stderr_end))

    def acknowledge(self, slot: int, position: Position) -> None:
        """Tell the shim, in the next turn of the event loop, that everything up to `position` is stored."""
        self._channel.queue_ack(slot, encode_position(MessageType.ACK, slot, position.stdout_end, position.stderr_end))

    def forget(self, slot: int) -> None:
        """Make the shim forget a process: its end is stored, or it is no longer wanted."""
        self._channel.write(encode_json(MessageType.FORGET, {"slot": slot}))

    async def signal(self, slot: int, number: int, scope: str = "group", *, kill_after_ms: int | None = None) -> None:
        """Send a signal to the process's group, or to another `scope` (`outlast.model.process.SignalScope`).

        `kill_after_ms`: the shim then kills the tree when the process has ended, or after this time. A shim of an
        earlier version does not.

        Raises:
            NotRunning: the process has ended.
            PermissionError: the system refuses.
            OutOfResources: the shim has no descriptor left to find the tree.
        """
        message: dict[str, Any] = {"slot": slot, "signal": number, "scope": scope}
        if kill_after_ms is not None:
            message["kill_after_ms"] = kill_after_ms
        answer = await self._send_request(MessageType.SIGNAL, message)
        if answer.get("error") == "ended":
            raise NotRunning("the process has ended")
        if answer.get("error") == "short":
            raise shortage(answer["errno"], "look for the processes of the tree")
        if "error" in answer:
            raise PermissionError(answer["errno"], os.strerror(answer["errno"]), signal.strsignal(number))

    async def kill(self, process_id: str, before: KillOutcome | None = None) -> KillOutcome:
        """SIGKILL the process's tree, also if the process itself has ended.

        Call this again, with the outcome `before`, until the tree is gone.
        """
        since_ticks = before.since_ticks if before is not None else 0
        answer = await self._send_request(MessageType.KILL, {"id": process_id, "since_ticks": since_ticks})
        return KillOutcome(answer["is_gone"], answer["strays"], answer["since_ticks"])

    async def sweep(self, process_ids: Sequence[str]) -> None:
        """SIGKILL what may be left of processes that no shim has any more."""
        await self._send_request(MessageType.SWEEP, {"ids": process_ids})

    async def write_stdin(self, slot: int, data: bytes) -> None:
        """Write to a standard input, and return when all of `data` is in the pipe, however long that takes.

        Raises:
            NoAnswer: the shim has gone. A part of `data`, or all of it, may be in the pipe.
            NotSent: the shim has gone, and nothing was written.
            NotRunning: the process ended meanwhile.
            StdinNotWritable: its standard input is closed.
        """
        request = next(self._requests)
        answer = await self._ask(request, encode_stdin(request, slot, data))
        if answer.get("error") == "ended":
            raise NotRunning("the process ended before it had read all of its input")
        if "error" in answer:
            raise StdinNotWritable("the process's standard input is closed")

    async def close_stdin(self, slot: int) -> None:
        """Close a standard input behind all data that is on its way."""
        await self._send_request(MessageType.CLOSE_STDIN, {"slot": slot})

    async def usage(self, timeout_s: float) -> ShimUsage | None:
        """Return what the shim holds. None: it is of a version that does not tell.

        Raises:
            ShimUnavailable: the link is down, or the shim does not answer within `timeout_s`.
        """
        if self.is_silent:
            raise ShimUnavailable("the shim does not answer: is it stopped?")
        if USAGE_FEATURE not in self._features:
            return None
        request = next(self._requests)
        future = self._ask(request, encode_json(MessageType.USAGE, {"request": request}))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise ShimUnavailable(f"the shim has not answered for {timeout_s:g} s") from None
        return ShimUsage(answer["memory_bytes"], answer["spool_bytes"], answer["blocked"])

    async def end_shim(self) -> bool:
        """Make the shim end, and wait until it has; an init waits for its caller. False: it still has processes."""
        pidfd = pidfd_open(self.shim_pid)
        try:
            self._closing = True  # before the request: the end of the connection may be seen before the answer
            answer = await self._send_request(MessageType.EXIT, {})
            self._closing = bool(answer["ended"])
            if self._closing and not answer["waits"]:
                await _wait_for_end(pidfd)
        finally:
            os.close(pidfd)
        return self._closing

    async def _send_request(self, kind: MessageType, fields: Mapping[str, Any]) -> dict[str, Any]:
        request = next(self._requests)
        return await self._wait_for_answer(self._ask(request, encode_json(kind, {"request": request, **fields})))

    async def _wait_for_answer(self, future: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """Wait for an answer that a running shim sends at once."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await future
        except TimeoutError:
            if not self.is_silent:
                log.error(  # noqa: TRY400 - a traceback would add nothing
                    "the shim (pid %d) has not answered for %d s: is it stopped? Continue it (kill -CONT %d), or kill "
                    "it with -9: then another one is started",
                    self.shim_pid,
                    _ANSWER_S,
                    self.shim_pid,
                )
            self.is_silent = True
            raise NoAnswer("the shim does not answer: is it stopped? It may do this when it runs again") from None

    def _ask(self, request: int, message: bytes, fds: Sequence[int] = ()) -> asyncio.Future[dict[str, Any]]:
        """Send a request, and return the future of its answer."""
        if not self.connected:
            raise NotSent("the shim is not connected")
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request] = _Request(future, self._channel.write(message, fds))
        future.add_done_callback(lambda _future: self._waiting.pop(request, None))
        return future

    # ---- messages from the shim

    def _on_lost(self, why: Exception) -> None:
        self._fail_requests()
        if not self.greeted.done():
            self.greeted.set_exception(ShimUnavailable(f"the connection to the shim was lost: {why}"))
        elif not self._closing:
            log.info("the connection to the shim was lost: %s", why)
            self._events.on_link_lost()

    def _fail_requests(self) -> None:
        for future, number in tuple(self._waiting.values()):
            if not future.done() and number <= self._channel.sent:
                future.set_exception(ShimLost("the connection to the shim was lost"))
            elif not future.done():
                future.set_exception(NotSent("the connection to the shim was lost before the request was sent"))

    def abort(self, why: Exception) -> None:
        """Drop the connection because of an error; the owner hears `on_link_lost`."""
        self._channel.abort(why)

    def _on_message(self, kind: MessageType, payload: memoryview) -> None:
        if self.is_silent:
            log.warning("the shim answers again")
            self.is_silent = False
        if kind is MessageType.OUTPUT:
            slot, stream, ts_ms, offset, size = decode_output(payload)
            self._events.on_output(slot, _STREAMS[stream], ts_ms, offset, size)
        elif kind is MessageType.ATTACHED:
            self._events.on_attached(*decode_position(payload))
        elif kind is MessageType.GREETING:
            self._on_greeting(payload)
        elif kind is MessageType.INVENTORY_END:
            if not self.greeted.done():
                self.greeted.set_result(None)
        else:
            self._on_json(kind, json.loads(bytes(payload)))

    def _on_greeting(self, payload: memoryview) -> None:
        version, rest = decode_greeting(payload)
        try:
            check_version(version)
        except ProtocolError as exc:
            self._refuse_shim(exc)
            return
        greeting = json.loads(bytes(rest))
        self.shim_pid, self.shim_version = greeting["pid"], greeting["version"]
        self._features = greeting.get("features", ())
        own = {**self._settings, "api_sockets": [one.to_json() for one in self._api_sockets]}
        self._channel.write(encode_greeting(PROTOCOL_VERSION, own), [one.fd for one in self._api_sockets])

    def _refuse_shim(self, why: OutlastError) -> None:
        self._closing = True
        self._channel.close()
        if not self.greeted.done():
            self.greeted.set_exception(why)

    def _receive_held(self, message: Mapping[str, Any]) -> HeldProcess:
        """Hold what came with a message.

        Raises:
            OSError: some descriptors are missing: this process has reached its limit on open files.
        """
        fds = self._channel.take_fds(message["fds"])
        return HeldProcess.from_description(ProcessDescription.from_json(message), fds)

    def _on_inventory(self, message: Mapping[str, Any]) -> None:
        try:
            held = self._receive_held(message)
        except OSError as exc:  # the shim has not died: to try at once, or to replace it, would help nobody
            self._refuse_shim(OutOfResources(f"there are too few descriptors for the processes of the shim: {exc}"))
            return
        taken = self._events.on_described(message["record"], held)
        self.inventory.append(ShimProcess(message["slot"], message["record"], held, taken))

    def _on_starting(self, message: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(message["request"])
        answer: dict[str, Any]
        try:
            held = self._receive_held(message)
        except OSError as exc:
            log.error("a start has failed: %s", exc)  # noqa: TRY400 - a traceback would add nothing
            self.forget(message["slot"])
            answer = {"error": "spawn", "stage": Stage.SETUP, "errno": errno.EMFILE}
        else:
            answer = {"slot": message["slot"], "held": held}
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)
        elif "held" in answer:  # the caller has given up: the gate stays shut
            answer["held"].close()
            self.forget(message["slot"])

    def _on_json(self, kind: MessageType, message: Any) -> None:
        if kind is MessageType.REPLY:
            waiting = self._waiting.get(message["request"])
            if waiting is not None and not waiting.future.done():
                waiting.future.set_result(message)
        elif kind is MessageType.STARTING:
            self._on_starting(message)
        elif kind is MessageType.INVENTORY:
            self._on_inventory(message)
        elif kind is MessageType.PROBLEM:
            self._on_problem(message["problem"])
        else:
            self._on_event(kind, message)

    def _on_problem(self, problem: str | None) -> None:
        """Note what the shim cannot read, and log it: once a minute at most, because it tries again twice a second."""
        self.problem = problem
        now = time.monotonic()
        if problem is not None and now >= self._problem_logged_at + _LOG_INTERVAL_S:
            self._problem_logged_at = now
            log.warning("the shim %s. Free memory or disk space; shim.log in the state folder has more", problem)

    def _on_event(self, kind: MessageType, message: Any) -> None:
        if kind is MessageType.STARTED:
            self._events.on_started(message["slot"], message["deadline_ms"])
        elif kind is MessageType.FAILED:
            self._events.on_failed(message["slot"], message["stage"], message["errno"])
        elif kind is MessageType.EXITED:
            self._events.on_exited(message["slot"], message)
        elif kind is MessageType.STDIN_CLOSED:
            self._events.on_stdin_closed(message["slot"])
        elif kind is MessageType.SEGMENT:
            (fd,) = self._channel.take_fds(message["fds"])
            self._events.on_segment(message["slot"], Stream(message["stream"]), message["start"], fd)
        else:
            raise WireError(f"a shim does not send {kind.name}")


async def _wait_for_end(pidfd: int) -> None:
    ended = has_ended(pidfd)
    while not ended:
        await asyncio.sleep(_LOOK_AGAIN_S)
        ended = has_ended(pidfd)

"""What the daemon asks the shim to do with one process."""

import json
from typing import Any

from outlast.shim.children import Children
from outlast.shim.connection.connection import Connection
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.handover import restore
from outlast.wire.codec import MessageType, WireError, decode_mark, decode_stdin, encode_json


class Commands:
    """Does what messages of an attached daemon ask for. A slot that is forgotten is passed over."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._by_kind = {
            MessageType.ADOPT: self._adopt,
            MessageType.FORGET: self._forget,
            MessageType.SIGNAL: self._signal,
            MessageType.KILL: self._kill,
            MessageType.SWEEP: self._sweep,
            MessageType.CLOSE_STDIN: self._close_stdin,
        }

    def do(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        """Do what one message asks for.

        Raises:
            WireError: it is not the daemon's to send.
        """
        if kind is MessageType.ACK:
            self._acknowledge(connection, *decode_mark(payload))
        elif kind is MessageType.ATTACH:
            self._attach(connection, *decode_mark(payload))
        elif kind is MessageType.STDIN:
            self._write_stdin(connection, *decode_stdin(payload))
        elif kind in self._by_kind:
            self._by_kind[kind](connection, json.loads(bytes(payload)))
        else:
            raise WireError(f"{kind.name} is not the daemon's to send")

    def _adopt(self, connection: Connection, message: dict[str, Any]) -> None:
        """Take over a process of a shim that is no more."""
        fds = connection.take_fds(message["fds"])
        child = self._children.adopt(lambda slot: restore(slot, message, fds, self._children.room))
        connection.send(reply(message["request"], slot=child.slot))

    def _acknowledge(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            connection.in_flight_bytes -= child.acknowledge(stdout_end, stderr_end)
            connection.offer(child)

    def _attach(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            connection.in_flight_bytes -= child.in_flight_bytes
            child.attach(stdout_end, stderr_end)
            self._children.open_gate(child)
            self._children.intake.pause_if_full(child)
            self._children.intake.resume()
            if child.started or child.failed is not None:
                connection.send(tell_started(child))
            if child.stdin is None:
                connection.send(tell_stdin_closed(child))
            if child.exited is not None:
                connection.send(tell_exited(child))
            connection.offer(child)

    def _signal(self, connection: Connection, message: dict[str, Any]) -> None:
        child = self._children.get(message["slot"])
        outcome: dict[str, Any] = {"error": "ended"}
        if child is not None:
            try:
                self._children.killing.signal(child, message["signal"], message["scope"])
                outcome = {}
            except PermissionError as exc:
                outcome = {"error": "refused", "errno": exc.errno}
            except ProcessLookupError:
                pass
        connection.send(reply(message["request"], **outcome))

    def _write_stdin(self, connection: Connection, request: int, slot: int, data: bytes) -> None:
        pending = PendingInput(request, memoryview(data))
        child = self._children.get(slot)
        if child is None:
            connection.send(reply(request, error="ended"))
        else:
            self._children.stdin.write(child, pending)

    def _forget(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            connection.in_flight_bytes -= child.in_flight_bytes
            self._children.forget(child)

    def _kill(self, connection: Connection, message: dict[str, Any]) -> None:
        is_gone = self._children.killing.kill(message["id"])
        connection.send(reply(message["request"], gone=is_gone))

    def _sweep(self, connection: Connection, message: dict[str, Any]) -> None:
        self._children.killing.sweep(message["ids"])
        connection.send(reply(message["request"]))

    def _close_stdin(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            self._children.stdin.close(child)
        connection.send(reply(message["request"]))


def reply(request: int, **fields: Any) -> bytes:
    """Frame the answer to a request."""
    return encode_json(MessageType.REPLY, {"request": request, **fields})


def tell_started(child: Child) -> bytes:
    """Frame what became of a start."""
    if child.failed is not None:
        return encode_json(MessageType.FAILED, {"slot": child.slot, **child.failed})
    return encode_json(MessageType.STARTED, {"slot": child.slot, "deadline_ms": child.deadline_ms})


def tell_exited(child: Child) -> bytes:
    """Frame how a process has ended."""
    return encode_json(MessageType.EXITED, {"slot": child.slot, **(child.exited or {})})


def tell_stdin_closed(child: Child) -> bytes:
    """Frame that a process's standard input is closed."""
    return encode_json(MessageType.STDIN_CLOSED, {"slot": child.slot})

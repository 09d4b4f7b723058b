"""Commands of the daemon that concern one process."""

import json
from typing import Any

from outlast.shim.children import Children
from outlast.shim.connection.connection import Connection
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.handover import restore
from outlast.wire.codec import MessageType, WireError, decode_position, decode_stdin, encode_json, encode_position
from outlast.wire.description import ProcessDescription


class CommandHandler:
    """A handler of the messages of an attached daemon. Slots that are forgotten are passed over."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._by_kind = {
            MessageType.ADOPT: self._adopt,
            MessageType.FORGET: self._forget,
            MessageType.SIGNAL: self._signal,
            MessageType.KILL: self._kill,
            MessageType.SWEEP: self._sweep,
            MessageType.CLOSE_STDIN: self._close_stdin,
            MessageType.USAGE: self._tell_usage,
        }

    def handle(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        """Do what one message asks for.

        Raises:
            WireError: a daemon does not send messages of this type.
        """
        if kind is MessageType.ACK:
            self._acknowledge(connection, *decode_position(payload))
        elif kind is MessageType.ATTACH:
            self._attach(connection, *decode_position(payload))
        elif kind is MessageType.STDIN:
            self._write_stdin(connection, *decode_stdin(payload))
        elif kind in self._by_kind:
            self._by_kind[kind](connection, json.loads(bytes(payload)))
        else:
            raise WireError(f"a daemon does not send {kind.name}")

    def _adopt(self, connection: Connection, message: dict[str, Any]) -> None:
        """Take over a process of a shim that has died."""
        fds = connection.take_fds(message["fds"])
        description = ProcessDescription.from_json(message)
        child = self._children.adopt(
            lambda slot: restore(slot, message["record"], description, fds, self._children.usage)
        )
        connection.send(encode_reply(message["request"], slot=child.slot))

    def _acknowledge(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            connection.in_flight_bytes -= child.acknowledge(stdout_end, stderr_end)
            connection.offer_output(child)

    def _attach(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            connection.in_flight_bytes -= child.in_flight_bytes
            child.attach(stdout_end, stderr_end)
            connection.send(encode_position(MessageType.ATTACHED, slot, stdout_end, stderr_end))
            self._children.open_gate(child)
            self._children.output_reader.pause_if_full(child)
            self._children.output_reader.resume_reading()
            if child.started or child.failed is not None:
                connection.send(encode_started(child))
            if child.stdin is None:
                connection.send(encode_stdin_closed(child))
            if child.exited is not None:
                connection.send(encode_exited(child))
            connection.offer_output(child)

    def _signal(self, connection: Connection, message: dict[str, Any]) -> None:
        child = self._children.get(message["slot"])
        outcome: dict[str, Any] = {"error": "ended"}
        if child is not None:
            try:
                self._children.killer.signal(child, message["signal"], message["scope"])
                if "kill_after_ms" in message:
                    self._children.stop_within(child, message["kill_after_ms"])
                outcome = {}
            except PermissionError as exc:
                outcome = {"error": "refused", "errno": exc.errno}
            except ProcessLookupError:
                pass
            except OSError as exc:  # no descriptor is free to find the tree
                outcome = {"error": "short", "errno": exc.errno}
        connection.send(encode_reply(message["request"], **outcome))

    def _write_stdin(self, connection: Connection, request: int, slot: int, data: bytes) -> None:
        pending = PendingInput(request, memoryview(data))
        child = self._children.get(slot)
        if child is None:
            connection.send(encode_reply(request, error="ended"))
        else:
            self._children.stdin_writer.write(child, pending)

    def _forget(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            connection.in_flight_bytes -= child.in_flight_bytes
            self._children.forget(child)

    def _kill(self, connection: Connection, message: dict[str, Any]) -> None:
        outcome = self._children.killer.kill(message["id"], message["since_ticks"])
        connection.send(encode_reply(message["request"], **outcome._asdict()))

    def _sweep(self, connection: Connection, message: dict[str, Any]) -> None:
        self._children.killer.sweep(message["ids"])
        connection.send(encode_reply(message["request"]))

    def _tell_usage(self, connection: Connection, message: dict[str, Any]) -> None:
        usage = self._children.usage
        connection.send(
            encode_reply(
                message["request"],
                memory_bytes=usage.memory_bytes,
                spool_bytes=usage.spool_bytes,
                blocked=self._children.output_reader.blocked,
            )
        )

    def _close_stdin(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            self._children.stdin_writer.close_after_input(child)
        connection.send(encode_reply(message["request"]))


def encode_reply(request: int, **fields: Any) -> bytes:
    """Return the answer to a request as a message."""
    return encode_json(MessageType.REPLY, {"request": request, **fields})


def encode_started(child: Child) -> bytes:
    """Return the outcome of a start as a message."""
    if child.failed is not None:
        return encode_json(MessageType.FAILED, {"slot": child.slot, **child.failed})
    return encode_json(MessageType.STARTED, {"slot": child.slot, "deadline_ms": child.deadline_ms})


def encode_exited(child: Child) -> bytes:
    """Return the exit of a process as a message."""
    return encode_json(MessageType.EXITED, {"slot": child.slot, **(child.exited or {})})


def encode_stdin_closed(child: Child) -> bytes:
    """Return a message which says that a process's standard input is closed."""
    return encode_json(MessageType.STDIN_CLOSED, {"slot": child.slot})

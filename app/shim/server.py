"""What the shim says to the daemon, and does for it."""

import json
import os
from pathlib import Path
from typing import Any

from app.shim.child import STDERR, STDOUT, Child, PendingInput
from app.shim.children import Children
from app.shim.connection import Connection
from app.shim.keeper import DaemonKeeper
from app.shim.linux import peer_uid, say
from app.shim.listener import Listener
from app.shim.loop import BROKEN, IN, OUT, Loop
from app.shim.spawn import Command, SpawnOutcome
from app.shim.wire import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    decode_mark,
    decode_stdin,
    encode,
    encode_greeting,
    encode_json,
)


class Shim:
    """Serves one daemon at a time; a newer one takes over."""

    def __init__(
        self, listener: Listener, state_dir: Path, open_files: int, keeper: DaemonKeeper | None = None
    ) -> None:
        self._loop = Loop(on_hangup=self._renew_listener)
        self._children = Children(self._loop, self, state_dir, open_files)
        self._daemon: Connection | None = None
        self._ending = False
        self._listener = listener
        self._commands = {
            MessageType.SPAWN: self._spawn,
            MessageType.FORGET: self._forget,
            MessageType.SIGNAL: self._signal,
            MessageType.KILL: self._kill,
            MessageType.CLOSE_STDIN: self._close_stdin,
            MessageType.EXIT: self._exit,
        }
        self._keeper = keeper
        if keeper is not None:
            self._children.on_other_reaped = keeper.on_reaped
            keeper.join(self._loop, self._end)

    def run(self) -> None:
        """Serve until the daemon says EXIT and nothing is left to look after."""
        self._watch_listener()
        while not self._ending:
            self._loop.run_once()
            if self._daemon is not None:
                self._flush(self._daemon)
        if self._keeper is not None:
            self._keeper.wait_for_who_ended_us()
        self._children.end_the_rest()

    def _end(self) -> None:
        self._ending = True

    # ---- Listener of children

    def on_readable(self, child: Child) -> None:
        """See `Listener`."""
        if self._daemon is not None:
            self._daemon.offer(child)

    def on_exited(self, child: Child) -> None:
        """See `Listener`. A child that is not attached yet will be told of then."""
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_json(MessageType.EXITED, {"slot": child.slot, **(child.exited or {})}))

    def on_stdin_closed(self, child: Child) -> None:
        """See `Listener`. The same goes for this."""
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_json(MessageType.STDIN_CLOSED, {"slot": child.slot}))

    # ---- connections

    def _watch_listener(self) -> None:
        self._loop.watch(self._listener.sock.fileno(), IN, lambda _events: self._accept())

    def _renew_listener(self) -> None:
        """SIGHUP: a daemon does not find the socket."""
        if not self._listener.is_reachable():
            self._loop.unwatch(self._listener.sock.fileno())
            self._listener.renew()
            self._watch_listener()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.sock.accept()
        except OSError:
            return
        if peer_uid(sock) not in {0, os.geteuid()}:
            sock.close()
            return
        connection = Connection(sock)
        connection.send(encode_greeting(PROTOCOL_VERSION, {"pid": os.getpid()}))
        self._loop.watch(sock.fileno(), IN, lambda events: self._on_connection(connection, events))
        self._flush(connection)

    def _on_connection(self, connection: Connection, events: int) -> None:
        try:
            if events & (IN | BROKEN):
                for kind, payload in connection.receive():
                    self._on_message(connection, kind, payload)
        except ConnectionError:
            self._disconnect(connection)
            return
        except Exception as exc:  # noqa: BLE001 - whatever a daemon sends, the processes must not suffer for it
            say(f"a connection was dropped: {exc!r}")
            self._disconnect(connection)
            return
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        if connection.closed:
            return
        try:
            blocked = connection.flush()
        except OSError:
            self._disconnect(connection)
            return
        if blocked != connection.wants_write:
            connection.wants_write = blocked
            self._loop.modify(connection.sock.fileno(), IN | OUT if blocked else IN)

    def _disconnect(self, connection: Connection) -> None:
        if connection.closed:
            return
        self._loop.unwatch(connection.sock.fileno())
        connection.close()
        if connection is self._daemon:
            self._daemon = None
            self._children.detach_all()

    # ---- messages

    def _on_message(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if connection is not self._daemon:
            self._greet(connection, kind, payload)
        elif kind is MessageType.ACK:
            self._acknowledge(connection, *decode_mark(payload))
        elif kind is MessageType.ATTACH:
            self._attach(connection, *decode_mark(payload))
        elif kind is MessageType.REBASE:
            self._rebase(*decode_mark(payload))
        elif kind is MessageType.STDIN:
            self._write_stdin(connection, *decode_stdin(payload))
        else:
            self._on_command(connection, kind, json.loads(bytes(payload)))

    def _greet(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if kind is not MessageType.GREETING:
            raise WireError("the first message is not a greeting")
        version, rest = decode_greeting(payload)
        if version != PROTOCOL_VERSION:
            raise WireError(f"the daemon speaks version {version} of the protocol, this shim {PROTOCOL_VERSION}")
        settings = json.loads(bytes(rest))
        self._children.room_bytes = settings["room_bytes"]
        self._children.total_room_bytes = settings["total_room_bytes"]
        if self._daemon is not None:
            self._disconnect(self._daemon)
        self._daemon = connection
        if self._keeper is not None:
            self._keeper.on_greeted()
        for child in self._children:
            if child.started:
                connection.send(encode_json(MessageType.INVENTORY, _describe(child)))
        connection.send(encode(MessageType.INVENTORY_END))

    def _on_command(self, connection: Connection, kind: MessageType, message: dict[str, Any]) -> None:
        handler = self._commands.get(kind)
        if handler is None:
            raise WireError(f"{kind.name} is not the daemon's to send")
        handler(connection, message)

    def _forget(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            connection.in_flight_bytes -= child.in_flight_bytes
            self._children.forget(child)

    def _kill(self, connection: Connection, message: dict[str, Any]) -> None:
        self._children.kill(message["id"])
        connection.send(_reply(message["request"]))

    def _close_stdin(self, connection: Connection, message: dict[str, Any]) -> None:
        if (child := self._children.get(message["slot"])) is not None:
            self._children.close_stdin(child)
        connection.send(_reply(message["request"]))

    def _exit(self, connection: Connection, message: dict[str, Any]) -> None:
        self._ending = not len(self._children)
        # An init waits for who asked it, so whoever asks must not wait for its end.
        connection.send(_reply(message["request"], ended=self._ending, waits=self._keeper is not None))
        self._flush(connection)

    def _spawn(self, connection: Connection, message: dict[str, Any]) -> None:
        request = message["request"]

        def report(child: Child, outcome: SpawnOutcome) -> None:
            if connection is not self._daemon:
                # Who asked has gone. Whoever took over was greeted while this was not running yet: it is told now.
                if self._daemon is not None and not outcome.failed:
                    self._daemon.send(encode_json(MessageType.INVENTORY, _describe(child)))
            elif outcome.failed:
                connection.send(_reply(request, error="spawn", errno=outcome.errno, stage=outcome.stage))
            else:
                fields = {"slot": child.slot, "pid": child.pid, "started_at_ms": child.started_at_ms}
                connection.send(_reply(request, **fields))

        try:
            self._children.start(message["record"], Command(**message["command"]), report)
        except OSError as exc:
            connection.send(_reply(request, error="spawn", errno=exc.errno, stage=0))

    def _acknowledge(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            connection.in_flight_bytes -= self._children.acknowledge(child, stdout_end, stderr_end)
            connection.offer(child)

    def _attach(self, connection: Connection, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            self._children.attach(child, stdout_end, stderr_end)
            if child.stdin is None:
                self.on_stdin_closed(child)
            if child.exited is not None:
                self.on_exited(child)
            connection.offer(child)

    def _rebase(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        if (child := self._children.get(slot)) is not None:
            child.rebase(stdout_end, stderr_end)

    def _signal(self, connection: Connection, message: dict[str, Any]) -> None:
        child = self._children.get(message["slot"])
        outcome: dict[str, Any] = {"error": "ended"}
        if child is not None:
            try:
                self._children.signal_group(child, message["signal"])
                outcome = {}
            except PermissionError as exc:
                outcome = {"error": "refused", "errno": exc.errno}
            except ProcessLookupError:
                pass
        connection.send(_reply(message["request"], **outcome))

    def _write_stdin(self, connection: Connection, request: int, slot: int, data: bytes) -> None:
        def answer(error: str | None) -> None:
            connection.send(_reply(request, error=error) if error else _reply(request))

        child = self._children.get(slot)
        if child is None:
            answer("ended")
        else:
            self._children.write_stdin(child, PendingInput(memoryview(data), answer))


def _describe(child: Child) -> dict[str, Any]:
    return {
        "slot": child.slot,
        "record": child.record,
        "pid": child.pid,
        "started_at_ms": child.started_at_ms,
        "stdin_open": child.stdin is not None,
        "stdout_from": child.let_go[STDOUT],
        "stderr_from": child.let_go[STDERR],
    }


def _reply(request: int, **fields: Any) -> bytes:
    return encode_json(MessageType.REPLY, {"request": request, **fields})

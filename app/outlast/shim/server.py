"""The shim: a server for one daemon at a time."""

import contextlib
import gc
import json
import os
import select
import socket
from pathlib import Path
from typing import Any

from outlast import __version__
from outlast.linux.proc import identify
from outlast.linux.unix_socket import peer_pid, peer_uid
from outlast.shim import upgrade
from outlast.shim.children import Children
from outlast.shim.connection.api_sockets import HeldApiSockets
from outlast.shim.connection.commands import (
    CommandHandler,
    encode_exited,
    encode_reply,
    encode_started,
    encode_stdin_closed,
)
from outlast.shim.connection.connection import Connection, MessageWithFds
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.event_loop import BROKEN, IN, OUT, Loop
from outlast.shim.log import log
from outlast.shim.starts import StartRequest
from outlast.shim.state.buffer import Segment
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.handover import describe
from outlast.wire.api_socket import ApiSocket
from outlast.wire.codec import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    encode,
    encode_greeting,
    encode_json,
)
from outlast.wire.contract import TERMINAL_FEATURE, USAGE_FEATURE, Command

_LAST_READS = 256
"""Maximum number of reads from a daemon that is replaced: it can have left a few socket buffers full."""
_ACCEPT_AGAIN_S = 0.5
_MAX_STRANGERS = 8
"""Maximum number of connections that have not greeted: the oldest is closed for another one."""
_CROWDED_S = 0.02
"""Wait before descriptors are sent that the kernel has not let go on their way."""


class Shim:
    """A server of one daemon at a time; a newer daemon takes over."""

    def __init__(
        self,
        listener: Listener,
        state_dir: Path,
        *,
        open_files: int,
        secret: str,
        lock_fd: int,
        supervisor: DaemonSupervisor | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Make the shim of a state folder.

        Args:
            listener: the socket to which daemons connect.
            state_dir: the state folder.
            open_files: the soft limit on open files that processes get.
            secret: that of the folder's identity.
            lock_fd: descriptor of the folder's lock.
            supervisor: of the daemon, if this is an init.
            state: what an earlier program in this process has left (see `upgrade.py`).
        """
        self._loop = Loop(on_hangup=self._renew_listener)
        self._children = Children(self._loop, self, state_dir, open_files, folder=listener.folder, secret=secret)
        if state is None:
            self._children.output_reader.clear_spool()
        else:
            upgrade.restore_children(self._children, state)
        self._daemon: Connection | None = None
        self._strangers: list[Connection] = []
        self._crowded: set[Connection] = set()
        self._ending = False
        self._accepts = True
        self._listener = listener
        self._api_sockets = HeldApiSockets() if state is None else HeldApiSockets.resume(state["api_sockets"])
        self._commands = CommandHandler(self._children)
        self._upgrade = upgrade.Upgrade(
            children=self._children,
            listener=listener,
            api_sockets=self._api_sockets,
            supervisor=supervisor,
            lock_fd=lock_fd,
            settings={"state_dir": str(state_dir), "open_files": open_files, "secret": secret},
            leave_daemon=self._leave_daemon,
        )
        self._supervisor = supervisor
        if supervisor is not None:
            self._children.on_other_reaped = supervisor.on_reaped
            supervisor.run_on(self._loop, self._end)

    def serve(self) -> None:
        """Serve until the daemon says EXIT and no process is left."""
        self._accept_connections()
        gc.freeze()  # a collection that touched what is here now would copy pages that forked processes share
        while not self._ending:
            self._loop.run_once()
            if self._daemon is not None:
                self._flush(self._daemon)
        if self._supervisor is not None:
            self._supervisor.wait_for_down()
        self._children.kill_remaining()

    def _end(self) -> None:
        self._ending = True

    def _leave_daemon(self) -> None:
        if self._daemon is not None:
            self._handle_rest_and_disconnect(self._daemon)

    def _advance_upgrade(self) -> None:
        again_s = self._upgrade.advance(daemon_is_connected=self._daemon is not None)
        if again_s is not None:
            self._loop.call_later(again_s, self._advance_upgrade)

    # ---- ChildObserver. A process that is not attached is reported when it is.

    def on_started(self, child: Child) -> None:
        """Report the outcome of a start."""
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_started(child))

    def on_readable(self, child: Child) -> None:
        """Send frames of a process in its turn."""
        if self._daemon is not None:
            self._daemon.offer_output(child)

    def on_problem(self) -> None:
        """Report what output cannot be read, or that all can again."""
        if self._daemon is not None:
            self._daemon.send(encode_json(MessageType.PROBLEM, {"problem": self._children.output_reader.problem}))

    def offer_segment(self, child: Child, stream: int, segment: Segment) -> bool:
        """Give the daemon another buffer file of a process, if the socket takes it now."""
        message = {"slot": child.slot, "stream": stream, "start": segment.start, "fds": 1}
        return self._daemon is not None and self._daemon.send_now(
            encode_json(MessageType.SEGMENT, message), [segment.fd]
        )

    def on_exited(self, child: Child) -> None:
        """Report the exit of a process."""
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_exited(child))

    def on_stdin_closed(self, child: Child) -> None:
        """Report that a standard input is closed."""
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_stdin_closed(child))

    def on_stdin_answer(self, pending: PendingInput, error: str | None) -> None:
        """Answer a request that brought input."""
        if self._daemon is not None and pending.request is not None:
            reply = encode_reply(pending.request, error=error) if error else encode_reply(pending.request)
            self._daemon.send(reply)

    # ---- connections

    def _accept_connections(self) -> None:
        if not self._loop.has_handler(self._listener.sock.fileno()):
            self._loop.add_handler(self._listener.sock.fileno(), IN, lambda _events: self._accept())

    def _renew_listener(self) -> None:
        """Make the socket again if its file has gone: after SIGHUP, by which a daemon asks for that."""
        if not self._listener.is_reachable():
            self._stop_accepting()
            try:
                self._listener.renew()
            except OSError as exc:  # a full disk must not harm the processes
                log(f"cannot make the socket again now: {exc.strerror}")
            self._accept_connections()

    def _stop_accepting(self) -> None:
        if self._loop.has_handler(self._listener.sock.fileno()):
            self._loop.remove_handler(self._listener.sock.fileno())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.sock.accept()
        except BlockingIOError:
            return
        except OSError as exc:  # no descriptor: who connects waits, and the loop has time for others
            if self._accepts:
                log(f"cannot accept connections now: {exc.strerror}; trying again until it works")
            self._accepts = False
            self._stop_accepting()
            self._loop.call_later(_ACCEPT_AGAIN_S, self._accept_connections)
            return
        self._accepts = True
        if peer_uid(sock) not in {0, os.geteuid()}:
            sock.close()
            return
        connection = Connection(sock)
        daemon = None if self._daemon is None else self._daemon.peer
        features = [USAGE_FEATURE, TERMINAL_FEATURE]
        greeting = {"pid": os.getpid(), "version": __version__, "daemon": daemon, "features": features}
        connection.send(encode_greeting(PROTOCOL_VERSION, greeting))
        self._strangers.append(connection)
        if len(self._strangers) > _MAX_STRANGERS:
            self._disconnect(self._strangers[0])
        self._loop.add_handler(sock.fileno(), IN, lambda events: self._on_connection(connection, events))
        self._flush(connection)

    def _on_connection(self, connection: Connection, events: int) -> None:
        try:
            if events & (IN | BROKEN):
                for kind, payload in connection.receive():
                    self._on_message(connection, kind, payload)
                # Once for all acknowledgements of this read: it takes time where many processes are paused.
                self._children.output_reader.resume_reading()
                self._children.starts.fork_next()
        except ConnectionError:
            self._disconnect(connection)
            return
        except Exception as exc:  # noqa: BLE001 - nothing that a daemon sends may harm the processes
            log(f"dropped a connection: {exc!r}")
            self._disconnect(connection)
            return
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        if connection.closed or connection.broken:
            return
        try:
            blocked = connection.flush()
        except OSError:
            connection.broken = True
            self._handle_rest_and_disconnect(connection)
            return
        if connection.is_crowded:
            self._flush_later(connection)
        if blocked != connection.wants_write:
            connection.wants_write = blocked
            self._loop.set_events(connection.sock.fileno(), IN | OUT if blocked else IN)

    def _flush_later(self, connection: Connection) -> None:
        if connection not in self._crowded:
            self._crowded.add(connection)
            self._loop.call_later(_CROWDED_S, lambda: self._flush_crowded(connection))

    def _flush_crowded(self, connection: Connection) -> None:
        self._crowded.discard(connection)
        self._flush(connection)

    def _disconnect(self, connection: Connection) -> None:
        if connection.closed:
            return
        self._loop.remove_handler(connection.sock.fileno())
        connection.close()
        if connection in self._strangers:
            self._strangers.remove(connection)
        if connection is self._daemon:
            self._daemon = None
            self._children.starts.drop_waiting()
            for child in self._children:
                child.detach()
            self._children.output_reader.on_daemon_gone()

    def _handle_rest_and_disconnect(self, connection: Connection) -> None:
        """Handle what a daemon sent before it died or was replaced: it may have handed a process over.

        The kernel refuses what it sends from now on, so the daemon knows of each request whether it was received.
        """
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RD)
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        for _ in range(_LAST_READS):
            if connection.closed or not poll.poll(0):
                break
            self._on_connection(connection, IN)
        self._disconnect(connection)

    # ---- messages

    def _on_message(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if connection is not self._daemon:
            self._on_first_message(connection, kind, payload)
            return
        if kind is MessageType.SPAWN:
            self._add_start(connection, json.loads(bytes(payload)))
        elif kind is MessageType.EXIT:
            self._exit(connection, json.loads(bytes(payload)))
        else:
            self._commands.handle(connection, kind, payload)

    def _on_first_message(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if kind is MessageType.UPGRADE:
            self._upgrade.request(connection, json.loads(bytes(payload)))
            self._advance_upgrade()
            return
        if kind is MessageType.API_SOCKETS:
            self._give_api_sockets(connection, json.loads(bytes(payload)))
            return
        if kind is not MessageType.GREETING:
            raise WireError("the first message is not a greeting")
        version, rest = decode_greeting(payload)
        if version != PROTOCOL_VERSION:
            raise WireError(f"the daemon speaks protocol version {version}, this shim version {PROTOCOL_VERSION}")
        settings = json.loads(bytes(rest))
        usage = self._children.usage
        usage.process_limit_bytes = settings["limit_bytes"]
        usage.memory_limit_bytes = settings["memory_bytes"]
        usage.spool_limit_bytes = settings["spool_bytes"]
        self._leave_daemon()
        self._strangers.remove(connection)
        self._take_api_sockets(connection, settings["api_sockets"])
        self._daemon = connection
        connection.peer = identify(peer_pid(connection.sock))
        self._children.output_reader.on_daemon_connected()
        if self._supervisor is not None:
            self._supervisor.on_greeted()
        for child in self._children:
            self._send_inventory(connection, child)
        connection.send(encode(MessageType.INVENTORY_END))
        if self._children.output_reader.problem is not None:
            self.on_problem()

    def _give_api_sockets(self, connection: Connection, message: dict[str, Any]) -> None:
        kept = self._api_sockets.keep_only(message["addresses"])
        reply = encode_reply(0, sockets=[one.to_json() for one in kept])
        connection.send_described(lambda: MessageWithFds(reply, [one.fd for one in kept]))

    def _take_api_sockets(self, connection: Connection, sockets: list[dict[str, Any]]) -> None:
        try:
            fds = connection.take_fds(len(sockets))
        except OSError as exc:  # too many open files: those that the shim has are most likely the same
            log(f"cannot hold the sockets of the HTTP API for the next daemon: {exc}")
        else:
            self._api_sockets.replace(list(map(ApiSocket.from_json, sockets, fds)))

    def _send_inventory(self, connection: Connection, child: Child) -> None:
        with contextlib.suppress(OSError):  # without memory, reading continues on disk, and the daemon gets that file
            self._children.output_reader.switch_to_memory(child)
        connection.send_described(lambda: _describe_known(child))

    def _exit(self, connection: Connection, message: dict[str, Any]) -> None:
        self._ending = not len(self._children)
        # An init waits for the process that asked it to end. That process must not wait for the init.
        connection.send(encode_reply(message["request"], ended=self._ending, waits=self._supervisor is not None))

    def _add_start(self, connection: Connection, message: dict[str, Any]) -> None:
        request = message["request"]

        def answer(child: Child | OSError) -> None:
            if isinstance(child, OSError):
                _send_refusal(connection, request, child)
            elif connection.closed:  # no daemon will ask for it
                self._children.forget(child)
            else:
                connection.send_described(lambda: _describe_start(request, child))

        stdout_at, stderr_at = map(int, message["begins_at"])
        start = StartRequest(message["record"], Command(**message["command"]), (stdout_at, stderr_at))
        self._children.starts.add(start, answer)


def _describe_start(request: int, child: Child) -> MessageWithFds:
    description, fds = describe(child)
    fields = {"request": request, "slot": child.slot, **description.to_json(), "fds": len(fds)}
    return MessageWithFds(encode_json(MessageType.STARTING, fields), fds)


def _describe_known(child: Child) -> MessageWithFds:
    description, fds = describe(child)
    fields = {"slot": child.slot, "record": child.record, **description.to_json(), "fds": len(fds)}
    return MessageWithFds(encode_json(MessageType.INVENTORY, fields), fds)


def _send_refusal(connection: Connection, request: int, why: OSError) -> None:
    connection.send(encode_reply(request, error="spawn", errno=why.errno, stage=getattr(why, "stage", 0)))

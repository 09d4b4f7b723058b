"""What the shim says to the daemon, and does for it."""

import contextlib
import gc
import json
import os
import select
from pathlib import Path
from typing import Any

from outlast.linux.unix_socket import peer_uid
from outlast.shim import upgrade
from outlast.shim.children import Children, WantedStart
from outlast.shim.connection.commands import Commands, reply, tell_exited, tell_started, tell_stdin_closed
from outlast.shim.connection.connection import Connection
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.event_loop import BROKEN, IN, OUT, Loop
from outlast.shim.log import log
from outlast.shim.state.child import Child, PendingInput
from outlast.shim.state.handover import describe
from outlast.wire.codec import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    encode,
    encode_greeting,
    encode_json,
)
from outlast.wire.contract import Command

# What a daemon that is replaced may still have to say is a few socket buffers full at most.
_LAST_READS = 256
# What one start gains from another is gained by then, and each holds some more descriptors until all are forked.
_STARTS_AT_ONCE = 16


class Shim:
    """Serves one daemon at a time; a newer one takes over."""

    def __init__(
        self,
        listener: Listener,
        state_dir: Path,
        *,
        open_files: int,
        lock_fd: int,
        keeper: DaemonSupervisor | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Look after a state folder.

        Args:
            listener: where daemons are waited for.
            state_dir: the state folder.
            open_files: the soft limit that processes get.
            lock_fd: holds the folder's lock.
            keeper: if this is an init.
            state: what an earlier program in this process has left (see `upgrade.py`).
        """
        self._loop = Loop(on_hangup=self._renew_listener)
        self._children = Children(self._loop, self, state_dir, open_files)
        if state is None:
            self._children.intake.clear_spool()
        else:
            upgrade.restore_children(self._children, state)
        self._daemon: Connection | None = None
        self._wanted: list[dict[str, Any]] = []
        self._ending = False
        self._listener = listener
        self._commands = Commands(self._children)
        self._upgrade = upgrade.Upgrade(
            children=self._children,
            listener=listener,
            keeper=keeper,
            lock_fd=lock_fd,
            settings={"state_dir": str(state_dir), "open_files": open_files},
            leave_daemon=self._leave_daemon,
        )
        self._keeper = keeper
        if keeper is not None:
            self._children.on_other_reaped = keeper.on_reaped
            keeper.join(self._loop, self._end)

    def run(self) -> None:
        """Serve until the daemon says EXIT and nothing is left to look after."""
        self._watch_listener()
        gc.freeze()  # what is here now stays: a collection that looked at it would touch, and so copy, what forks share
        while not self._ending:
            self._loop.run_once()
            if self._daemon is not None:
                self._flush(self._daemon)
        if self._keeper is not None:
            self._keeper.wait_for_who_ended_us()
        self._children.end_the_rest()

    def _end(self) -> None:
        self._ending = True

    def _leave_daemon(self) -> None:
        if self._daemon is not None:
            self._take_last_words(self._daemon)

    def _try_upgrade(self) -> None:
        again_s = self._upgrade.step(daemon_is_here=self._daemon is not None)
        if again_s is not None:
            self._loop.later(again_s, self._try_upgrade)

    # ---- Listener of children

    def on_started(self, child: Child) -> None:
        """See `Listener`. A child that is not attached yet will be told of then."""
        if self._daemon is not None and child.attached:
            self._daemon.send(tell_started(child))

    def on_readable(self, child: Child) -> None:
        """See `Listener`."""
        if self._daemon is not None:
            self._daemon.offer(child)

    def on_exited(self, child: Child) -> None:
        """See `Listener`. The same goes for this."""
        if self._daemon is not None and child.attached:
            self._daemon.send(tell_exited(child))

    def on_stdin_closed(self, child: Child) -> None:
        """See `Listener`. The same goes for this."""
        if self._daemon is not None and child.attached:
            self._daemon.send(tell_stdin_closed(child))

    def on_stdin_answer(self, pending: PendingInput, error: str | None) -> None:
        """See `Listener`."""
        if self._daemon is not None and pending.request is not None:
            self._daemon.send(reply(pending.request, error=error) if error else reply(pending.request))

    # ---- connections

    def _watch_listener(self) -> None:
        self._loop.watch(self._listener.sock.fileno(), IN, lambda _events: self._accept())

    def _renew_listener(self) -> None:
        """SIGHUP: a daemon does not find the socket."""
        if not self._listener.is_reachable():
            self._loop.unwatch(self._listener.sock.fileno())
            try:
                self._listener.renew()
            except OSError as exc:  # a full disk: the processes must not suffer for it
                log(f"the socket can't be made anew now: {exc.strerror}")
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
                # Once for all that was acknowledged: where many processes wait for room, to look at them takes time.
                self._children.intake.resume()
                self._start_wanted(connection)
        except ConnectionError:
            self._disconnect(connection)
            return
        except Exception as exc:  # noqa: BLE001 - whatever a daemon sends, the processes must not suffer for it
            log(f"a connection was dropped: {exc!r}")
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
            self._take_last_words(connection)
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
            self._wanted.clear()
            for child in self._children:
                child.detach()
            self._children.intake.on_daemon_gone()

    def _take_last_words(self, connection: Connection) -> None:
        """Do what a daemon has said that is dead or replaced, then leave it: it may have handed a process over."""
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
            self._greet(connection, kind, payload)
            return
        if kind is MessageType.SPAWN:
            self._wanted.append(json.loads(bytes(payload)))
            if len(self._wanted) == _STARTS_AT_ONCE:
                self._start_wanted(connection)
            return
        self._start_wanted(connection)
        if kind is MessageType.EXIT:
            self._exit(connection, json.loads(bytes(payload)))
        else:
            self._commands.do(connection, kind, payload)

    def _greet(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if kind is MessageType.UPGRADE:
            self._upgrade.ask(connection, json.loads(bytes(payload)))
            self._try_upgrade()
            return
        if kind is not MessageType.GREETING:
            raise WireError("the first message is not a greeting")
        version, rest = decode_greeting(payload)
        if version != PROTOCOL_VERSION:
            raise WireError(f"the daemon speaks version {version} of the protocol, this shim {PROTOCOL_VERSION}")
        settings = json.loads(bytes(rest))
        room = self._children.room
        room.process_limit_bytes = settings["room_bytes"]
        room.memory_limit_bytes = settings["memory_bytes"]
        room.spool_limit_bytes = settings["spool_bytes"]
        self._leave_daemon()
        self._daemon = connection
        self._children.intake.on_daemon()
        if self._keeper is not None:
            self._keeper.on_greeted()
        for child in self._children:
            self._tell_inventory(connection, child)
        connection.send(encode(MessageType.INVENTORY_END))

    def _tell_inventory(self, connection: Connection, child: Child) -> None:
        with contextlib.suppress(OSError):  # no memory: it goes on on disk, and the daemon gets that
            self._children.intake.share(child)
        description, fds = describe(child)
        connection.send(encode_json(MessageType.INVENTORY, {**description, "fds": len(fds)}), fds)

    def _exit(self, connection: Connection, message: dict[str, Any]) -> None:
        self._ending = not len(self._children)
        # An init waits for who asked it, so whoever asks must not wait for its end.
        connection.send(reply(message["request"], ended=self._ending, waits=self._keeper is not None))

    def _start_wanted(self, connection: Connection) -> None:
        """Start what was asked for in messages that came one behind the other."""
        if not self._wanted:
            return
        wanted, self._wanted = self._wanted, []
        started = self._children.start(
            [WantedStart(m["record"], Command(**m["command"]), m["begins_at"]) for m in wanted]
        )
        for message, child in zip(wanted, started, strict=True):
            request = message["request"]
            if isinstance(child, OSError):
                _refuse(connection, request, child)
                continue
            description, fds = describe(child)
            del description["record"]  # who asked has it
            starting = {"request": request, **description, "fds": len(fds)}
            try:
                connection.send(encode_json(MessageType.STARTING, starting), fds)
            except OSError as exc:  # too many open files to keep them for later
                self._children.forget(child)
                _refuse(connection, request, exc)


def _refuse(connection: Connection, request: int, why: OSError) -> None:
    connection.send(reply(request, error="spawn", errno=why.errno, stage=getattr(why, "stage", 0)))

"""The shim's loop: children on one side, the daemon on the other, epoll between them."""

import contextlib
import heapq
import itertools
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.shim import cgroup
from app.shim.child import STDERR, STDOUT, Child, PendingInput, now_ms
from app.shim.connection import Connection
from app.shim.linux import become_subreaper, peer_uid, pidfd_open
from app.shim.spawn import Command, SpawnOutcome, spawn
from app.shim.tree import kill_descendants, kill_tree
from app.shim.wire import (
    PROTOCOL_VERSION,
    MessageType,
    WireError,
    decode_greeting,
    decode_mark,
    decode_stdin,
    encode_greeting,
    encode_json,
)

READ_AHEAD_BYTES = 8 << 20
_KILL_ROUNDS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0)
_IN = select.EPOLLIN
_OUT = select.EPOLLOUT


class Shim:
    """Everything the shim does, in one thread that never waits for anything but epoll."""

    def __init__(self, listener: socket.socket, state_dir: Path) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._closed_this_round: set[int] = set()
        self._children: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._slots = itertools.count(1)
        self._daemon: Connection | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._full: set[tuple[int, int]] = set()
        self._held_bytes = 0
        self._room_bytes = 64 << 20
        self._total_room_bytes = 512 << 20
        self._ending = False
        self._groups = cgroup.CgroupRoot.create(state_dir)
        self._umask = os.umask(0o077)
        self._open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = self._open_files[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        become_subreaper()
        listener.setblocking(False)
        self._watch(listener.fileno(), _IN, lambda _events: self._accept())
        self._watch_signals()

    def run(self) -> None:
        """Serve until the daemon says EXIT and nothing is left to look after."""
        while not self._ending:
            self._closed_this_round.clear()
            for fd, events in self._epoll.poll(self._until_next_timer()):
                # An earlier event of this round may have closed it, and its number may be in use again.
                if fd not in self._closed_this_round:
                    self._handlers[fd](events)
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            self._flush()
        self._end_the_rest()

    # ---- epoll, timers, signals

    def _watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def _unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._handlers[fd]
        self._closed_this_round.add(fd)

    def _close(self, fd: int) -> None:
        if fd in self._handlers:  # a pipe that is not read for want of room is not watched
            self._unwatch(fd)
        os.close(fd)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_numbers), action))

    def _until_next_timer(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _watch_signals(self) -> None:
        """Wake the loop at SIGCHLD. What would end us is noticed and left alone: `outlast down` ends the shim."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

        def on_signal(_events: int) -> None:
            for number in os.read(reader, 4096):
                if number != signal.SIGCHLD:
                    print(
                        f"ignored {signal.Signals(number).name}: `outlast down` ends the shim",
                        file=sys.stderr,
                        flush=True,
                    )  # noqa: E501, T201
            self._reap()

        self._watch(reader, _IN, on_signal)

    # ---- children: start, output, end

    def _spawn(self, connection: Connection, message: dict[str, Any]) -> None:
        slot = next(self._slots)
        group = self._groups.make(message["record"]["id"]) if self._groups else None
        child = Child(slot, message["record"], group)
        request = message["request"]
        try:
            spawned = spawn(Command(**message["command"]), group=group, prepare=self._restore_own_settings)
        except OSError as exc:
            if group is not None:
                cgroup.discard(group)
            connection.send(_reply(request, error="spawn", errno=exc.errno, stage=0))
            return
        child.pid, child.stdin = spawned.pid, spawned.stdin
        if spawned.stdout is not None:
            child.outputs[STDOUT] = spawned.stdout
        if spawned.stderr is not None:
            child.outputs[STDERR] = spawned.stderr
        child.pidfd = pidfd_open(child.pid)
        self._children[slot] = child
        self._by_pid[child.pid] = child
        collected: list[bytes] = []

        def on_outcome(_events: int) -> None:
            if raw := os.read(spawned.outcome, 64):
                collected.append(raw)
                return
            self._close(spawned.outcome)
            self._started(child, SpawnOutcome(b"".join(collected)), connection, request)

        self._watch(spawned.outcome, _IN, on_outcome)

    def _restore_own_settings(self) -> None:
        os.umask(self._umask)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._open_files)

    def _started(self, child: Child, outcome: SpawnOutcome, connection: Connection, request: int) -> None:
        if child.group is not None and not outcome.joined_cgroup:
            cgroup.discard(child.group)
            child.group = None
        if outcome.failed:
            os.waitid(os.P_PID, child.pid, os.WEXITED)  # it has reported and is at its _exit
            self._drop(child)
            if connection is self._daemon:
                connection.send(_reply(request, error="spawn", errno=outcome.errno, stage=outcome.stage))
            return
        child.started = True
        self._watch(child.pidfd, _IN, lambda _events: self._reap_child(child))
        for stream, fd in child.outputs.items():
            self._watch_output(child, stream, fd)
        if child.stdin is not None:
            self._watch(child.stdin, 0, lambda events: self._on_stdin(child, events))
        if connection is self._daemon:
            connection.send(_reply(request, slot=child.slot, pid=child.pid, started_at_ms=child.started_at_ms))
        self._reap()

    def _watch_output(self, child: Child, stream: int, fd: int) -> None:
        self._watch(fd, _IN, lambda _events: self._on_output(child, stream))

    def _on_output(self, child: Child, stream: int) -> None:
        count = child.read(stream)
        if count is None:
            return
        if count == 0:
            self._close(child.outputs.pop(stream))
        else:
            self._held_bytes += count
            if not self._has_room(child):
                self._pause(child)
        if self._daemon is not None:
            self._daemon.offer(child)

    def _has_room(self, child: Child) -> bool:
        room = min(self._room_bytes, READ_AHEAD_BYTES) if child.attached else self._room_bytes
        return child.held_bytes < room and self._held_bytes < self._total_room_bytes

    def _pause(self, child: Child) -> None:
        """Stop reading: the process will block when its pipes are full, and nothing is dropped."""
        for stream, fd in child.outputs.items():
            if (child.slot, stream) not in self._full:
                self._full.add((child.slot, stream))
                self._unwatch(fd)

    def _resume(self) -> None:
        for slot, stream in list(self._full):
            child = self._children.get(slot)
            if child is None or stream not in child.outputs:
                self._full.discard((slot, stream))
            elif self._has_room(child):
                self._full.discard((slot, stream))
                self._watch_output(child, stream, child.outputs[stream])

    def _reap(self) -> None:
        """Reap what has ended: our children by their own handler, adopted orphans here.

        This loop is the only reaper there is, so looking (WNOWAIT) at any child and then reaping that very one
        takes nobody's exit status.
        """
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None:
                return
            child = self._by_pid.get(seen.si_pid)
            if child is None:
                os.waitid(os.P_PID, seen.si_pid, os.WEXITED)
            elif child.started:
                self._reap_child(child)
            else:
                return  # between fork and exec; its outcome pipe is handled next

    def _reap_child(self, child: Child) -> None:
        if child.reaped:
            return
        info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if info is None:
            return
        child.reaped = True
        key = "code" if info.si_code == os.CLD_EXITED else "signal"
        child.exited = {key: info.si_status, "ts_ms": now_ms()}
        del self._by_pid[child.pid]
        self._close(child.pidfd)
        child.pidfd = -1
        self._end_stdin(child, "ended")
        if self._daemon is not None and child.attached:
            self._daemon.send(encode_json(MessageType.EXITED, {"slot": child.slot, **child.exited}))

    def _drop(self, child: Child) -> None:
        """Forget a child and everything that belongs to it."""
        if not child.reaped:
            self._by_pid.pop(child.pid, None)
        self._end_stdin(child, "forgotten")
        for fd in child.outputs.values():
            self._close(fd)
        child.outputs.clear()
        if child.pidfd >= 0:
            self._close(child.pidfd)
        self._held_bytes -= child.held_bytes
        if self._daemon is not None:
            self._daemon.in_flight_bytes -= child.in_flight_bytes
        child.unsent.clear()
        child.attached = False
        if child.group is not None:
            cgroup.discard(child.group)
        self._children.pop(child.slot, None)
        self._resume()

    # ---- standard input

    def _on_stdin(self, child: Child, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self._end_stdin(child, "closed")
            return
        self._advance_stdin(child)

    def _advance_stdin(self, child: Child) -> None:
        if child.stdin is None:
            return
        try:
            more = child.write_stdin()
        except BrokenPipeError:
            self._end_stdin(child, "closed")
            return
        if not more and child.close_stdin_after_input:
            self._end_stdin(child, "closed")
        else:
            self._epoll.modify(child.stdin, _OUT if more else 0)

    def _end_stdin(self, child: Child, why: str) -> None:
        if child.stdin is None:
            return
        self._close(child.stdin)
        child.stdin = None
        while child.input:
            child.input.popleft().answer(why)
        if self._daemon is not None:
            self._daemon.send(encode_json(MessageType.STDIN_CLOSED, {"slot": child.slot}))

    # ---- the daemon

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if peer_uid(sock) not in (0, os.geteuid()):
            sock.close()
            return
        connection = Connection(sock)
        connection.send(encode_greeting(PROTOCOL_VERSION, {"pid": os.getpid()}))
        self._watch(sock.fileno(), _IN, lambda events: self._on_connection(connection, events))
        self._flush_connection(connection)

    def _on_connection(self, connection: Connection, events: int) -> None:
        try:
            if events & (_IN | select.EPOLLHUP | select.EPOLLERR):
                for kind, payload in connection.receive():
                    self._on_message(connection, kind, payload)
        except (ConnectionError, WireError, ValueError, KeyError, TypeError) as exc:
            if not isinstance(exc, ConnectionError):
                print(f"a connection was dropped: {exc!r}", file=sys.stderr, flush=True)  # noqa: T201
            self._disconnect(connection)
            return
        self._flush_connection(connection)

    def _flush(self) -> None:
        if self._daemon is not None:
            self._flush_connection(self._daemon)

    def _flush_connection(self, connection: Connection) -> None:
        if connection.sock.fileno() < 0:
            return
        try:
            blocked = connection.flush()
        except OSError:
            self._disconnect(connection)
            return
        if blocked != connection.wants_write:
            connection.wants_write = blocked
            self._epoll.modify(connection.sock.fileno(), _IN | _OUT if blocked else _IN)

    def _disconnect(self, connection: Connection) -> None:
        if connection.sock.fileno() < 0:
            return
        self._unwatch(connection.sock.fileno())
        connection.close()
        if connection is self._daemon:
            self._daemon = None
            for child in self._children.values():
                child.detach()
            self._resume()

    def _on_message(self, connection: Connection, kind: MessageType, payload: memoryview) -> None:
        if not connection.welcome:
            self._greet(connection, kind, payload)
        elif kind is MessageType.ACK:
            self._acknowledge(*decode_mark(payload))
        elif kind is MessageType.ATTACH:
            self._attach(*decode_mark(payload))
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
        self._room_bytes = settings["room_bytes"]
        self._total_room_bytes = settings["total_room_bytes"]
        if self._daemon is not None:
            self._disconnect(self._daemon)
        connection.welcome = True
        self._daemon = connection
        inventory = [
            {
                "slot": child.slot,
                "record": child.record,
                "pid": child.pid,
                "started_at_ms": child.started_at_ms,
                "stdin_open": child.stdin is not None,
            }
            for child in self._children.values()
            if child.started
        ]
        connection.send(encode_json(MessageType.INVENTORY, inventory))

    def _on_command(self, connection: Connection, kind: MessageType, message: dict[str, Any]) -> None:
        if kind is MessageType.SPAWN:
            self._spawn(connection, message)
        elif kind is MessageType.FORGET:
            child = self._children.get(message["slot"])
            if child is not None:
                self._drop(child)
        elif kind is MessageType.SIGNAL:
            connection.send(self._signal(message))
        elif kind is MessageType.KILL:
            self._kill(message["id"], 0)
            connection.send(_reply(message["request"]))
        elif kind is MessageType.CLOSE_STDIN:
            self._close_stdin(message["slot"])
            connection.send(_reply(message["request"]))
        elif kind is MessageType.EXIT:
            self._ending = not self._children
            connection.send(_reply(message["request"], ended=self._ending))
            self._flush_connection(connection)
        else:
            raise WireError(f"{kind.name} is not the daemon's to send")

    def _acknowledge(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        child = self._children.get(slot)
        if child is None:
            return
        freed = child.acknowledge(stdout_end, stderr_end)
        self._held_bytes -= freed
        if self._daemon is not None:
            self._daemon.in_flight_bytes -= freed
            self._daemon.offer(child)
        if self._full:
            self._resume()

    def _attach(self, slot: int, stdout_end: int, stderr_end: int) -> None:
        child = self._children.get(slot)
        if child is None or self._daemon is None:
            return
        self._held_bytes -= child.attach(stdout_end, stderr_end)
        if child.exited is not None:
            self._daemon.send(encode_json(MessageType.EXITED, {"slot": slot, **child.exited}))
        self._daemon.offer(child)
        if not self._has_room(child):
            self._pause(child)
        self._resume()

    def _signal(self, message: dict[str, Any]) -> bytes:
        child = self._children.get(message["slot"])
        if child is None or child.reaped:
            return _reply(message["request"], error="ended")
        try:
            os.killpg(child.pid, message["signal"])  # not reaped: the pid, and so the group, is certainly its own
        except OSError as exc:
            return _reply(message["request"], error="signal", errno=exc.errno)
        return _reply(message["request"])

    def _kill(self, process_id: str, round_number: int) -> None:
        """SIGKILL all that a process ever started, also when it has ended and is forgotten here."""
        if self._groups is not None and self._groups.kill(process_id):
            return
        child = next((child for child in self._by_pid.values() if child.id == process_id), None)
        leader = child.pid if child is not None else None
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
        found = kill_tree(leader, process_id)
        if (found or round_number == 0) and round_number + 1 < len(_KILL_ROUNDS_S):
            self._later(_KILL_ROUNDS_S[round_number + 1], lambda: self._kill(process_id, round_number + 1))

    def _end_the_rest(self) -> None:
        """Leave nothing behind: SIGKILL what outlived its process, then reap it."""
        deadline = time.monotonic() + _KILL_ROUNDS_S[-1]
        while time.monotonic() < deadline:
            if self._groups is not None:
                self._groups.kill_all()
            if kill_descendants() == 0:
                break
            self._reap()
            time.sleep(_KILL_ROUNDS_S[1])
        self._reap()
        if self._groups is not None:
            self._groups.remove()

    def _write_stdin(self, connection: Connection, request: int, slot: int, data: bytes) -> None:
        child = self._children.get(slot)

        def answer(error: str | None) -> None:
            if connection is self._daemon:
                connection.send(_reply(request, error=error) if error else _reply(request))

        if child is None or child.reaped:
            answer("ended")
        elif child.stdin is None or child.close_stdin_after_input:
            answer("closed")
        else:
            child.input.append(PendingInput(request, memoryview(data), answer))
            self._advance_stdin(child)

    def _close_stdin(self, slot: int) -> None:
        child = self._children.get(slot)
        if child is not None and child.stdin is not None:
            child.close_stdin_after_input = True
            self._advance_stdin(child)


def _reply(request: int, **fields: Any) -> bytes:
    return encode_json(MessageType.REPLY, {"request": request, **fields})

"""Becoming the next version of this program in place: the same process, with its children, pipes and buffers.

The state is written into a memory file, descriptors are kept open over exec, and the new program reads the file.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from outlast.shim.children import Children
from outlast.shim.connection.api_sockets import HeldApiSockets
from outlast.shim.connection.connection import Connection
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.state.handover import dump_state, load_state
from outlast.wire.codec import PROTOCOL_VERSION, MessageType, encode_json
from outlast.wire.contract import BLOCKED_SIGNALS, STATE_VERSION, TERMINAL_FEATURE

RESUME = "--resume"
"""First argument of a program that continues an earlier one."""
_IDLE_WITHIN_S = 5.0
"""Time that an upgrade waits for kills under way, which usually take moments."""
_RETRY_S = 0.02


class UpgradeRequest(NamedTuple):
    """An upgrade that was requested.

    Attributes:
        connection: of the program that asked.
        argv: the new program.
        protocol: version of the protocol that the new program speaks.
        deadline_s: time of the monotonic clock after which it is refused.
    """

    connection: Connection
    argv: Sequence[str]
    protocol: int
    deadline_s: float


class Upgrade:
    """The upgrade of this shim: takes the request, waits until no kill is under way, and becomes the new program.

    A request that is refused changes nothing.
    """

    def __init__(
        self,
        *,
        children: Children,
        listener: Listener,
        api_sockets: HeldApiSockets,
        supervisor: DaemonSupervisor | None,
        lock_fd: int,
        settings: dict[str, Any],
        leave_daemon: Callable[[], None],
    ) -> None:
        self._children = children
        self._listener = listener
        self._api_sockets = api_sockets
        self._supervisor = supervisor
        self._lock_fd = lock_fd
        self._settings = settings
        self._leave_daemon = leave_daemon
        self._request: UpgradeRequest | None = None

    def request(self, connection: Connection, message: dict[str, Any]) -> None:
        """Note a request, or refuse it."""
        argv: list[str] = message["argv"]
        if message["state_version"] != STATE_VERSION:
            refusal = (
                f"this shim hands over its state in version {STATE_VERSION}, the new program reads version "
                f"{message['state_version']}"
            )
        elif self._has_terminals and TERMINAL_FEATURE not in message.get("features", ()):
            refusal = "the new program knows no terminals, and a process has one"
        elif not os.access(argv[0], os.X_OK):
            refusal = f"{argv[0]} cannot be run"
        elif self._request is not None:
            refusal = "an upgrade is under way"
        elif self._supervisor is not None and self._supervisor.is_ending:
            refusal = "everything is being ended"
        else:
            deadline_s = time.monotonic() + _IDLE_WITHIN_S
            self._request = UpgradeRequest(connection, argv, message["protocol"], deadline_s)
            return
        _send_refusal(connection, refusal)

    @property
    def _has_terminals(self) -> bool:
        return any(buffer.relay for child in self._children for buffer in child.streams.values())

    def advance(self, *, daemon_is_connected: bool) -> float | None:
        """Carry the request out if that is possible now. Return in how many seconds to call again, if at all."""
        request = self._request
        if request is None:
            return None
        if daemon_is_connected and request.protocol != PROTOCOL_VERSION:
            self._refuse(f"the daemon speaks protocol version {PROTOCOL_VERSION}, the new shim {request.protocol}")
        elif self._children.killer.is_idle:
            self._exec(request)
        elif time.monotonic() > request.deadline_s:
            self._refuse("processes are being killed all the time")
        else:
            return _RETRY_S
        return None

    def _refuse(self, why: str) -> None:
        if self._request is not None:
            _send_refusal(self._request.connection, why)
        self._request = None

    def _exec(self, request: UpgradeRequest) -> None:
        self._leave_daemon()
        asker = request.connection.sock.fileno()
        state, kept = self._dump_state(asker)
        memory = os.memfd_create("outlast-state", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(memory), "w", encoding="utf-8") as file:
            json.dump(state, file)
        kept.append(memory)
        # Signals that come meanwhile wait until there are handlers again.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*BLOCKED_SIGNALS, signal.SIGCHLD))
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            # The new program does not read the last argument: it shows the folder in the list of processes.
            argv = [*request.argv, RESUME, str(memory), self._settings["state_dir"]]
            os.execv(request.argv[0], argv)  # noqa: S606 - no shell is the point
        except OSError as exc:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*BLOCKED_SIGNALS, signal.SIGCHLD))
            self._refuse(f"cannot run {request.argv[0]}: {exc.strerror}")

    def _dump_state(self, asker: int) -> tuple[dict[str, Any], list[int]]:
        """Return all that the new program needs, and the descriptors that it keeps."""
        children = [dump_state(child) for child in self._children]
        supervisor, supervisor_fds = self._supervisor.dump_state() if self._supervisor is not None else (None, [])
        api_sockets, api_fds = self._api_sockets.dump_state()
        directory, sock = self._listener.fds
        state = {
            **self._settings,
            "lock_fd": self._lock_fd,
            "listener": [directory, sock],
            "api_sockets": api_sockets,
            "asker": asker,
            "next_slot": self._children.next_slot,
            "children": [{**child, "fds": fds} for child, fds in children],
            "supervisor": supervisor,
        }
        return state, [
            self._lock_fd,
            directory,
            sock,
            asker,
            *api_fds,
            *(fd for _, fds in children for fd in fds),
            *supervisor_fds,
        ]


def load_state_file(memory: int) -> dict[str, Any]:
    """Read what the earlier program has left, and keep its descriptors from programs that are started from now on."""
    with os.fdopen(memory, encoding="utf-8") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    for fd in (state["lock_fd"], *state["listener"], state["asker"], *(f for c in state["children"] for f in c["fds"])):
        os.set_inheritable(fd, False)
    return state


def restore_children(children: Children, state: dict[str, Any]) -> None:
    """Put the processes of the earlier program into the table."""
    children.next_slot = state["next_slot"]
    for child in state["children"]:
        children.insert(load_state(child, child["fds"], children.usage))


def confirm(asker: int, version: dict[str, Any]) -> None:
    """Tell the program that asked for the upgrade that the new shim runs, and close its connection."""
    with contextlib.suppress(OSError):
        os.write(asker, encode_json(MessageType.REPLY, {"request": 0, **version}))
    os.close(asker)


def _send_refusal(connection: Connection, why: str) -> None:
    connection.send(encode_json(MessageType.REPLY, {"request": 0, "error": why}))

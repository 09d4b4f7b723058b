"""Becoming the next version of this program in place: the same process, with its children, pipes and buffers.

What is known is written into a memory file, descriptors are kept open over exec, and the new program reads the file.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from outlast.shim.children import Children
from outlast.shim.connection.connection import Connection
from outlast.shim.connection.listener import Listener
from outlast.shim.daemon_supervisor import DaemonSupervisor
from outlast.shim.state.handover import full_state, restore_full
from outlast.wire.codec import PROTOCOL_VERSION, MessageType, encode_json
from outlast.wire.contract import BLOCKED_SIGNALS, STATE_VERSION

RESUME = "--resume"
# A kill takes moments; an upgrade waits so long for those that are under way.
_QUIET_WITHIN_S = 5.0


class Asked(NamedTuple):
    """An upgrade that somebody waits for."""

    connection: Connection
    argv: Sequence[str]
    protocol: int
    deadline: float


class Upgrade:
    """Takes the request, waits for a quiet moment, and becomes the new program. Refuses before anything is touched."""

    def __init__(
        self,
        *,
        children: Children,
        listener: Listener,
        keeper: DaemonSupervisor | None,
        lock_fd: int,
        settings: dict[str, Any],
        leave_daemon: Callable[[], None],
    ) -> None:
        self._children = children
        self._listener = listener
        self._keeper = keeper
        self._lock_fd = lock_fd
        self._settings = settings
        self._leave_daemon = leave_daemon
        self._asked: Asked | None = None

    def ask(self, connection: Connection, message: dict[str, Any]) -> None:
        """Note what was asked for, or say why not."""
        argv: list[str] = message["argv"]
        if message["state_version"] != STATE_VERSION:
            refusal = (
                f"this shim hands over its state in version {STATE_VERSION}, the new program reads version "
                f"{message['state_version']}"
            )
        elif not os.access(argv[0], os.X_OK):
            refusal = f"{argv[0]} can't be run"
        elif self._asked is not None:
            refusal = "an upgrade is under way"
        elif self._keeper is not None and self._keeper.is_ending:
            refusal = "everything is being ended"
        else:
            self._asked = Asked(connection, argv, message["protocol"], time.monotonic() + _QUIET_WITHIN_S)
            return
        _answer(connection, refusal)

    def step(self, *, daemon_is_here: bool) -> float | None:
        """Do what was asked for, if it can be done now. Return in how many seconds to call again, if at all."""
        asked = self._asked
        if asked is None:
            return None
        if daemon_is_here and asked.protocol != PROTOCOL_VERSION:
            self._refuse(f"the daemon speaks version {PROTOCOL_VERSION} of the protocol, the new shim {asked.protocol}")
        elif self._children.killing.is_quiet:
            self._become(asked)
        elif time.monotonic() > asked.deadline:
            self._refuse("processes are being killed all the time")
        else:
            return 0.02
        return None

    def _refuse(self, why: str) -> None:
        if self._asked is not None:
            _answer(self._asked.connection, why)
        self._asked = None

    def _become(self, asked: Asked) -> None:
        self._leave_daemon()
        described = [full_state(child) for child in self._children]
        asker = asked.connection.sock.fileno()
        directory, sock = self._listener.fds
        kept = [self._lock_fd, directory, sock, asker, *(fd for _, fds in described for fd in fds)]
        keeper, keeper_fds = self._keeper.state() if self._keeper is not None else (None, [])
        state = {
            **self._settings,
            "lock_fd": self._lock_fd,
            "listener": [directory, sock],
            "asker": asker,
            "next_slot": self._children.next_slot,
            "children": [{**state, "fds": fds} for state, fds in described],
            "keeper": keeper,
        }
        memory = os.memfd_create("outlast-state", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(memory), "w", encoding="utf-8") as file:
            json.dump(state, file)
        kept += [memory, *keeper_fds]
        # What is signalled meanwhile waits until there are handlers again.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*BLOCKED_SIGNALS, signal.SIGCHLD))
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            # The folder is for who looks at the list of processes.
            argv = [*asked.argv, RESUME, str(memory), self._settings["state_dir"]]
            os.execv(asked.argv[0], argv)  # noqa: S606 - no shell is the point
        except OSError as exc:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*BLOCKED_SIGNALS, signal.SIGCHLD))
            self._refuse(f"{asked.argv[0]} can't be run: {exc.strerror}")


def load(memory: int) -> dict[str, Any]:
    """Read what the program before has left, and keep its descriptors from whatever is started next."""
    with os.fdopen(memory, encoding="utf-8") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    for fd in (state["lock_fd"], *state["listener"], state["asker"], *(f for c in state["children"] for f in c["fds"])):
        os.set_inheritable(fd, False)
    return state


def restore_children(children: Children, state: dict[str, Any]) -> None:
    """Take in the processes of the program before."""
    children.next_slot = state["next_slot"]
    for told in state["children"]:
        children.put(restore_full(told, told["fds"], children.room))


def confirm(asker: int, version: dict[str, Any]) -> None:
    """Tell who asked for it that the new program runs."""
    with contextlib.suppress(OSError):
        os.write(asker, encode_json(MessageType.REPLY, {"request": 0, **version}))
    os.close(asker)


def _answer(connection: Connection, refusal: str) -> None:
    connection.send(encode_json(MessageType.REPLY, {"request": 0, "error": refusal}))

"""Finding the shim of a state folder, or starting one."""

import asyncio
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast import failpoints
from outlast.linux import lock
from outlast.linux.process import pidfd_open, signal_process
from outlast.linux.unix_socket import peer_uid, socket_address
from outlast.model.errors import ShimUnavailable
from outlast.shimlink.conversation import SHIM_LOG_NAME
from outlast.shimlink.events import ShimEvents
from outlast.shimlink.link import ShimLink
from outlast.wire.api_socket import ApiSocket
from outlast.wire.contract import SHIM_LOCK_NAME, SOCKET_NAME

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 20.0
_FIND_TIMEOUT_S = 10.0
_FIND_RETRY_S = 0.02
_OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""Soft limit on open files that processes get: the daemon's own, read before the daemon raises it."""
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""Environment variables that the shim inherits. No others, so that no secret reaches a process through the shim."""


def find_shim(state_dir: Path) -> socket.socket | None:
    """Connect to the shim of `state_dir`. None: no shim listens.

    Raises:
        ShimUnavailable: the shim accepts no connections, or another user's program listens there.
    """
    try:
        directory = os.open(state_dir, os.O_DIRECTORY | os.O_RDONLY)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)  # a stopped shim accepts no connections, and must not stop its caller
    try:
        sock.connect(socket_address(directory, SOCKET_NAME))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except BlockingIOError:
        sock.close()
        raise ShimUnavailable(f"the shim of {state_dir} accepts no connections: is it stopped?") from None
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    if peer_uid(sock) != os.geteuid():
        sock.close()
        raise ShimUnavailable(f"a program of another user listens on {state_dir / SOCKET_NAME}: nothing was sent to it")
    return sock


async def find_running_shim(state_dir: Path) -> socket.socket | None:
    """Connect to the shim of `state_dir`, also if it is just starting or its socket's file has gone. None: none runs.

    Raises:
        ShimUnavailable: a shim runs and cannot be reached.
    """
    deadline = time.monotonic() + _FIND_TIMEOUT_S
    while (sock := find_shim(state_dir)) is None:
        pid = lock.holder(state_dir / SHIM_LOCK_NAME)
        if pid is None:
            return None
        if time.monotonic() > deadline:
            raise ShimUnavailable(
                f"the shim of {state_dir} (pid {pid}) runs and does not listen; see {state_dir / SHIM_LOG_NAME}"
            )
        _request_socket(state_dir, pid)
        await asyncio.sleep(_FIND_RETRY_S)
    return sock


def _request_socket(state_dir: Path, pid: int) -> None:
    """Send a shim SIGHUP, upon which it makes its socket again if the file has gone. Never signal a later process."""
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if lock.holder(state_dir / SHIM_LOCK_NAME) == pid:
            signal_process(pidfd, pid, signal.SIGHUP)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def start_shim(state_dir: Path) -> None:
    """Start a shim for `state_dir` and wait until it listens.

    Raises:
        ShimUnavailable: the shim did not start; its log says why.
    """
    ready, theirs = os.pipe()
    try:
        output = _open_log(state_dir / SHIM_LOG_NAME)
        try:
            # -P: a folder called `outlast` in the working directory is not this package
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "outlast.shim", str(state_dir), str(theirs), str(_OPEN_FILES)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs,),
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(output)
            os.close(theirs)
        process.wait(_START_TIMEOUT_S)
        readable, _, _ = select.select([ready], [], [], _START_TIMEOUT_S)
        if not readable or not os.read(ready, 16):
            raise ShimUnavailable(f"the shim did not start: see {state_dir / SHIM_LOG_NAME}")
    finally:
        os.close(ready)


def _open_log(path: Path) -> int:
    """Open the shim's log, or /dev/null if that cannot be done now: a full disk must not keep a shim from starting."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        log.warning("the shim has no log: %s cannot be opened: %s", path, exc.strerror)
        return os.open(os.devnull, os.O_WRONLY)


def _environment() -> dict[str, str]:
    environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    # Failpoints are for the first shim only: its successors would die there, too.
    if armed := os.environ.pop(failpoints.VARIABLE, None):
        environment[failpoints.VARIABLE] = armed
    return environment


async def connect_or_start(
    state_dir: Path, events: ShimEvents, settings: Mapping[str, int], api_sockets: Sequence[ApiSocket] = ()
) -> ShimLink:
    """Return a link to the shim of `state_dir`, and start a shim if none runs.

    Args:
        state_dir: the state folder.
        events: the owner of the link.
        settings: `limit_bytes`, `memory_bytes` and `spool_bytes`: the buffer limits for one process, and for all in
            memory and on disk.
        api_sockets: the sockets of the HTTP API, of which the shim keeps duplicates.

    Raises:
        ShimUnavailable: the shim could not be started or reached.
        ProtocolError: the shim that runs speaks another version of the protocol. Nothing has changed.
    """
    sock = await find_running_shim(state_dir)
    if sock is None:
        await asyncio.to_thread(start_shim, state_dir)
        sock = await find_running_shim(state_dir)
    if sock is None:
        raise ShimUnavailable(f"the shim of {state_dir} does not answer")
    return await ShimLink.open(sock, events, settings, api_sockets)

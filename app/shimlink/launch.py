"""Finding the shim of a state folder, or starting one."""

import asyncio
import os
import resource
import select
import socket
import subprocess
import sys
from pathlib import Path

from app.model.errors import ShimUnavailable
from app.shim.linux import socket_address
from app.shimlink.link import ShimEvents, ShimLink

SOCKET_NAME = "shim.sock"
LOG_NAME = "shim.log"
_START_TIMEOUT_S = 20.0
# Taken before the daemon raises its own: processes get what is ordinary here.
_OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
# The shim gets a clean environment, so that no secret of the daemon's can reach a process through it.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def find_shim(state_dir: Path) -> socket.socket | None:
    """Connect to the shim of `state_dir`; None if there is none."""
    try:
        directory = os.open(state_dir, os.O_DIRECTORY | os.O_RDONLY)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(socket_address(directory, SOCKET_NAME))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def start_shim(state_dir: Path) -> None:
    """Start a shim for `state_dir` and wait until it listens.

    Raises:
        ShimUnavailable: it did not come up; its log says why.
    """
    ready, theirs = os.pipe()
    try:
        log = os.open(state_dir / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # -P: a folder called `app` where the daemon happens to be started is not ours
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "app.shim", str(state_dir), str(theirs), str(_OPEN_FILES)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs,),
                env={key: os.environ[key] for key in _INHERITED if key in os.environ},
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(theirs)
        process.wait(_START_TIMEOUT_S)
        readable, _, _ = select.select([ready], [], [], _START_TIMEOUT_S)
        if not readable or not os.read(ready, 16):
            raise ShimUnavailable(f"the shim did not start; {state_dir / LOG_NAME} says why")
    finally:
        os.close(ready)


async def connect_or_start(state_dir: Path, events: ShimEvents, *, room_bytes: int, total_room_bytes: int) -> ShimLink:
    """Return a link to the shim of `state_dir`, which is started if there is none.

    Raises:
        ShimUnavailable: it could not be started or reached.
        ProtocolError: a shim of another version looks after this folder's processes; it was left alone.
    """
    sock = find_shim(state_dir)
    if sock is None:
        await asyncio.to_thread(start_shim, state_dir)
        sock = find_shim(state_dir)
    if sock is None:
        raise ShimUnavailable(f"the shim of {state_dir} does not answer")
    return await ShimLink.open(sock, events, room_bytes=room_bytes, total_room_bytes=total_room_bytes)

"""A unix socket at which the daemon serves."""

import os
import socket
import stat
from pathlib import Path


def bind(path: Path) -> socket.socket:
    """Bind a unix socket that only this user can connect to, without listening yet.

    Raises:
        OSError: that is not possible.
    """
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()  # this daemon holds the state folder's lock, so no other daemon of the folder uses the socket
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock

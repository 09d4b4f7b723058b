"""A unix socket at which the daemon serves."""

import contextlib
import grp
import os
import socket
import stat
from pathlib import Path

from outlast.model.errors import ConfigError

_CONNECT_S = 1.0


def bind(path: Path, *, mode: int, group: str, backlog: int) -> socket.socket:
    """Bind a unix socket and listen: from now on, connections wait, and nobody takes the socket for a dead one's.

    A file that a dead daemon of this user has left is replaced.

    Args:
        path: the socket's file.
        mode: its permissions.
        group: name or number of its group; empty: this process's.
        backlog: maximum number of connections that wait.

    Raises:
        ConfigError: another program listens there, the file is somebody else's, or the group does not exist.
        OSError: the system refuses.
    """
    gid = _find_group(group)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else connects before group and mode are set
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    try:
        sock.listen(backlog)
        _set_access(path, mode, gid)
    except BaseException:
        sock.close()
        path.unlink()
        raise
    return sock


def _find_group(group: str) -> int:
    if not group:
        return -1
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"unix_socket_group: there is no group {group!r} on this machine") from None


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(f"{path} exists and is not a socket of this user: remove it, or choose another --listen")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except TimeoutError:
            pass
    raise ConfigError(f"another program listens on {path}: end it, or choose another --listen")


def _set_access(path: Path, mode: int, gid: int) -> None:
    """Give the new socket its group and mode. Its file is held meanwhile, so that no other file gets them."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigError(f"{path} was replaced by another program: choose another --listen")
        if gid != -1:
            os.chown(f"/proc/self/fd/{fd}", -1, gid)
        os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101 - a descriptor
    finally:
        os.close(fd)

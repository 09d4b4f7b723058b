"""Unix sockets: the process and the user at the other end, and addresses of any length."""

import socket
import struct

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid


def peer_uid(connection: socket.socket) -> int:
    """Return the user id at the other end of a unix socket, as the kernel tells it."""
    return _peer(connection)[1]


def peer_pid(connection: socket.socket) -> int:
    """Return the pid of the process that connected a unix socket; 0 if it has none in this container."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> tuple[int, int]:
    pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid), int(uid)


def socket_address(directory_fd: int, name: str) -> str:
    """Return an address of a unix socket that fits into 108 bytes, however long the path of its directory is."""
    return f"/proc/self/fd/{directory_fd}/{name}"

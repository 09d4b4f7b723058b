"""The socket in the state folder to which daemons connect."""

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from outlast.linux.unix_socket import socket_address
from outlast.wire.contract import SOCKET_NAME

_BACKLOG = 16


class Listener:
    """A listening unix socket, which can be made again if its file was removed."""

    def __init__(self, state_dir: Path, fds: Sequence[int] = ()) -> None:
        """Listen in a folder. `fds`: its descriptor, if it is open already, and that of the socket, if it listens."""
        self._directory = fds[0] if fds else os.open(state_dir, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
        self.sock = socket.socket(fileno=fds[1]) if fds[1:] else self._listen()

    @property
    def fds(self) -> tuple[int, int]:
        """Descriptors of the folder and of the socket."""
        return self._directory, self.sock.fileno()

    @property
    def folder(self) -> Path:
        """The state folder, also when it has been moved."""
        return Path(f"/proc/self/fd/{self._directory}")

    def is_reachable(self) -> bool:
        """Tell whether the socket's file exists."""
        try:
            os.stat(SOCKET_NAME, dir_fd=self._directory)
        except OSError:
            return False
        return True

    def renew(self) -> None:
        """Listen on a new file under the same name.

        Raises:
            OSError: no file can be made now. The old socket still listens.
        """
        fresh = self._listen()
        self.sock.close()
        self.sock = fresh

    def close(self) -> None:
        """Stop listening and remove the file."""
        self.sock.close()
        with contextlib.suppress(OSError):
            os.unlink(SOCKET_NAME, dir_fd=self._directory)

    def _listen(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=self._directory)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(socket_address(self._directory, SOCKET_NAME))
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        return sock

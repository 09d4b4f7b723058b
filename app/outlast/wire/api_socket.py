"""A socket on which the daemon serves the HTTP API, as daemon and shim pass it to each other."""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

UNIX = "unix:"
"""Beginning of the address of a unix socket, before its absolute path."""


class ApiSocket(NamedTuple):
    """A listening socket. It travels as JSON, together with a duplicate of its descriptor.

    Attributes:
        address: what a daemon was asked to listen on: `HOST:PORT` with the host as digits (port 0: any free one), or
            `unix:/path`.
        fd: its descriptor.
        file: device and inode of a unix socket's file, so that nobody else's is taken for it. None: it has no file.
    """

    address: str
    fd: int
    file: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what another program must know besides the descriptor."""
        return {"address": self.address, "file": self.file}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], fd: int) -> "ApiSocket":
        """Make it from what `to_json` returned, and a descriptor that belongs to it from now on."""
        return cls(fields["address"], fd, None if fields["file"] is None else tuple(fields["file"]))

    def bound_address(self) -> str:
        """Return where it listens, in the form of `address`: with the port that it got for port 0."""
        if self.file is not None:
            return self.address
        with socket.socket(fileno=os.dup(self.fd)) as sock:
            host, port = sock.getsockname()[:2]
        return host_port(host, port)

    def is_reachable(self) -> bool:
        """Tell whether clients can still connect: the file of a unix socket can have been removed or replaced."""
        return self.file is None or file_id(self._path) == self.file

    def remove_file(self) -> None:
        """Remove a unix socket's file, unless somebody else's is there now."""
        if self.file is not None and self.is_reachable():
            with contextlib.suppress(OSError):
                self._path.unlink()

    def close(self) -> None:
        """Close this descriptor."""
        os.close(self.fd)

    @property
    def _path(self) -> Path:
        return Path(self.address.removeprefix(UNIX))


def file_id(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None: there is none, or it cannot be seen."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def host_port(host: str, port: int) -> str:
    """Return host and port as a URL has them: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

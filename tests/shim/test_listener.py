"""The shim's socket: accidents to it must harm neither the shim nor its callers."""

import os
import socket
from pathlib import Path

import pytest

from outlast.model.errors import ShimUnavailable
from outlast.shim.connection.listener import Listener
from outlast.shimlink.launch import find_shim
from outlast.wire.contract import SOCKET_NAME


def test_a_socket_that_cannot_be_made_again_still_listens(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    listener = Listener(folder)
    (folder / SOCKET_NAME).unlink()
    folder.rmdir()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"):
        listener.renew()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    listener.close()
    os.close(listener.fds[0])


def test_a_shim_that_accepts_no_connection_does_not_block_its_caller(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    found: list[socket.socket | None] = []

    def fill() -> None:
        while len(found) < 1000:
            found.append(find_shim(tmp_path))

    with pytest.raises(ShimUnavailable, match="accepts no connections"):
        fill()
    for sock in found:
        assert sock is not None
        sock.close()
    listener.close()
    os.close(listener.fds[0])

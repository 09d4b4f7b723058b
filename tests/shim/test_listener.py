"""The shim's socket: what happens to it must not hurt the shim, nor who looks for it."""

import os
import socket
from pathlib import Path

import pytest

from outlast.model.errors import ShimUnavailable
from outlast.shim.connection.listener import Listener
from outlast.shimlink.launch import find_shim
from outlast.wire.contract import SOCKET_NAME


def test_one_that_cannot_be_renewed_goes_on(tmp_path: Path) -> None:
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


def test_a_shim_that_accepts_nobody_does_not_stop_who_asks(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    found: list[socket.socket | None] = []

    def fill() -> None:
        while len(found) < 1000:
            found.append(find_shim(tmp_path))

    with pytest.raises(ShimUnavailable, match="takes no connections"):
        fill()
    for sock in found:
        assert sock is not None
        sock.close()
    listener.close()
    os.close(listener.fds[0])

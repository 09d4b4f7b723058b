"""Notification of systemd, or another service manager, by the protocol of sd_notify(3)."""

import contextlib
import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def notify_ready() -> None:
    """Tell the service manager, if any, that the daemon serves requests. Never block, and ignore errors."""
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)

"""Asking a running shim to become the version that is installed here."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

from outlast.model.errors import ProtocolError, ShimUnavailable
from outlast.shimlink.launch import SHIM_LOG_NAME, find_shim
from outlast.wire.codec import PROTOCOL_VERSION, Decoder, MessageType, decode_greeting, encode_json
from outlast.wire.contract import STATE_VERSION

_ANSWER_S = 30.0
_RECEIVE_BYTES = 64 << 10


def upgrade_shim(state_dir: Path) -> int:
    """Make the shim of `state_dir` exec this installation's program in place; return its pid, which stays the same.

    Processes, pipes and buffers stay. A connected daemon connects again.

    Raises:
        ShimUnavailable: no shim runs, or it does not answer.
        ProtocolError: the shim refuses. Nothing has changed.
    """
    sock = find_shim(state_dir)
    if sock is None:
        raise ShimUnavailable(f"no shim runs for {state_dir}: there is nothing to upgrade")
    with sock:
        sock.settimeout(_ANSWER_S)
        argv = [sys.executable, "-P", "-m", "outlast.shim"]
        request = {"state_version": STATE_VERSION, "protocol": PROTOCOL_VERSION, "argv": argv}
        sock.sendall(encode_json(MessageType.UPGRADE, request))
        pid, reply = _receive_reply(sock)
    if "error" in reply:
        raise ProtocolError(f"the shim (pid {pid}) was not upgraded: {reply['error']}; nothing was touched")
    return pid


def _receive_reply(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    """Return the shim's pid, which its greeting brings, and its reply."""
    decoder = Decoder(_RECEIVE_BYTES)
    pid = 0
    while True:
        try:
            count = sock.recv_into(decoder.space())
        except TimeoutError:
            raise ShimUnavailable("the shim does not answer its socket") from None
        if count == 0:
            raise ShimUnavailable(f"the shim closed the connection: see {SHIM_LOG_NAME} in the state folder")
        decoder.filled(count)
        for kind, payload in decoder.messages():
            if kind is MessageType.GREETING:
                pid = json.loads(bytes(decode_greeting(payload)[1]))["pid"]
            elif kind is MessageType.REPLY:
                return pid, json.loads(bytes(payload))

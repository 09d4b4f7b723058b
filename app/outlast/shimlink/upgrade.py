"""Asking a running shim to become the version that is installed here."""

import json
import sys
from pathlib import Path

from outlast.model.errors import ProtocolError, ShimUnavailable
from outlast.shimlink.conversation import Conversation
from outlast.shimlink.launch import find_shim
from outlast.wire.codec import PROTOCOL_VERSION, MessageType
from outlast.wire.contract import STATE_VERSION, TERMINAL_FEATURE

_ANSWER_S = 30.0


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
        conversation = Conversation(sock, _ANSWER_S)
        pid: int = json.loads(conversation.greeting)["pid"]
        argv = [sys.executable, "-P", "-m", "outlast.shim"]
        request = {
            "state_version": STATE_VERSION,
            "protocol": PROTOCOL_VERSION,
            "argv": argv,
            "features": [TERMINAL_FEATURE],
        }
        reply = json.loads(conversation.ask(MessageType.UPGRADE, request))
    if "error" in reply:
        raise ProtocolError(f"the shim (pid {pid}) was not upgraded: {reply['error']}; nothing was touched")
    return pid

"""Asking a running shim which process is its daemon."""

import json
from pathlib import Path

from outlast.linux.proc import identify
from outlast.shimlink.conversation import Conversation
from outlast.shimlink.events import ShimLost
from outlast.shimlink.launch import find_shim
from outlast.wire.codec import PROTOCOL_VERSION

_ANSWER_S = 10.0


def connected_daemon(state_dir: Path) -> int | None:
    """Return the pid of the daemon that is connected to the shim of `state_dir`.

    Call this again after `pidfd_open`: if the answer is the same, the descriptor is the daemon's.

    Returns:
        None: there is no shim or no daemon, or the shim is older than this and does not tell, or in another container.

    Raises:
        ShimUnavailable: the shim does not answer.
    """
    sock = find_shim(state_dir)
    if sock is None:
        return None
    with sock:
        try:
            conversation = Conversation(sock, _ANSWER_S)
        except ShimLost:
            return None
    if conversation.version != PROTOCOL_VERSION:
        return None
    identity = json.loads(conversation.greeting).get("daemon")
    return identity[0] if identity and identify(identity[0]) == identity else None

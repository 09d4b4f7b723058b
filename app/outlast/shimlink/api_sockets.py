"""Getting the sockets of the HTTP API from the shim, which keeps them when a daemon dies."""

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from outlast.shimlink.conversation import Conversation, check_version
from outlast.shimlink.events import ShimLost
from outlast.shimlink.launch import find_running_shim
from outlast.wire.api_socket import ApiSocket
from outlast.wire.codec import MessageType

_ANSWER_S = 10.0


async def fetch_api_sockets(state_dir: Path, addresses: Sequence[str]) -> list[ApiSocket]:
    """Return duplicates of those sockets for `addresses` that the shim holds. It closes its others.

    Without a shim there are none.

    Raises:
        ShimUnavailable: a shim runs, and does not answer.
        ProtocolError: the shim speaks another version of the protocol. Nothing has changed.
    """
    sock = await find_running_shim(state_dir)
    if sock is None:
        return []
    try:
        with sock:
            return await asyncio.to_thread(_ask, sock, addresses)
    except ShimLost:
        return []  # it has died, and the sockets with it


def _ask(sock: socket.socket, addresses: Sequence[str]) -> list[ApiSocket]:
    conversation = Conversation(sock, _ANSWER_S)
    check_version(conversation.version)
    found = json.loads(conversation.ask(MessageType.API_SOCKETS, {"addresses": addresses}))["sockets"]
    return list(map(ApiSocket.from_json, found, conversation.take_fds(len(found))))

"""Talking to a shim without becoming its daemon."""

import socket
from collections.abc import Mapping
from typing import Any

from outlast.model.errors import ProtocolError, ShimUnavailable
from outlast.shimlink.events import ShimLost
from outlast.wire.codec import PROTOCOL_VERSION, Decoder, MessageType, decode_greeting, encode_json
from outlast.wire.fds import ReceivedFds

SHIM_LOG_NAME = "shim.log"
_RECEIVE_BYTES = 64 << 10


class Conversation:
    """A connection for one question. It blocks; the shim serves its daemon as before.

    Attributes:
        version: version of the protocol that the shim speaks.
        greeting: what else the shim's greeting brings, as JSON that only this version defines.
    """

    def __init__(self, sock: socket.socket, answer_s: float) -> None:
        """Wait for the shim's greeting on a connected socket, which stays the caller's.

        Args:
            sock: the socket.
            answer_s: time that the shim has for each answer.

        Raises:
            ShimLost: the shim closed the connection.
            ShimUnavailable: the shim does not answer.
        """
        sock.settimeout(answer_s)
        self._sock = sock
        self._decoder = Decoder(_RECEIVE_BYTES)
        self._received = ReceivedFds()
        self.version, rest = decode_greeting(self._receive(MessageType.GREETING))
        self.greeting = bytes(rest)

    def ask(self, kind: MessageType, fields: Mapping[str, Any]) -> bytes:
        """Send a question, and return the payload of the answer.

        Raises:
            ShimLost: the shim closed the connection.
            ShimUnavailable: the shim does not answer.
        """
        self._sock.sendall(encode_json(kind, fields))
        return bytes(self._receive(MessageType.REPLY))

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors that came with the answer; see `ReceivedFds.take_fds`."""
        return self._received.take_fds(count)

    def _receive(self, wanted: MessageType) -> memoryview:
        while True:
            for kind, payload in self._decoder.messages():
                if kind is wanted:
                    return payload
            try:
                count = self._received.receive(self._sock, self._decoder.space())
            except TimeoutError:
                raise ShimUnavailable("the shim does not answer its socket") from None
            except ConnectionError:
                count = 0
            if count == 0:
                raise ShimLost(f"the shim closed the connection: see {SHIM_LOG_NAME} in the state folder")
            self._decoder.filled(count)


def check_version(version: int) -> None:
    """Check that a shim speaks this program's version of the protocol.

    Raises:
        ProtocolError: it does not.
    """
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the running shim speaks version {version} of the protocol, this daemon version {PROTOCOL_VERSION}: "
            "nothing was touched; serve with the version of Outlast that started the shim"
        )

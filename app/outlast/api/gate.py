"""The gate before HTTP: a connection is served once its first request has shown the token.

Until then nothing is parsed but the end of the head, the header Authorization, and what a browser logs in with; what is
kept of a connection is bounded in bytes and in time. So is the number of connections that wait. When there are too
many, the one that has waited longest gives way, because a client that has the token sends it at once. Every later
request on a connection is checked like the first one, by `outlast.api.auth`.
"""

import asyncio
import ipaddress
import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

from aiohttp import hdrs, web

from outlast.api import headers
from outlast.api.auth import Guard
from outlast.api.errors import error_response, to_response
from outlast.linux import descriptors
from outlast.model.errors import InvalidRequest, Unavailable

HEAD_BYTES = 32 << 10
"""Maximum size of a first request's line and headers."""
HEAD_S = 10.0
"""Time in which a connection must show the token."""
MAX_WAITING = 4096
"""Maximum number of connections that have not shown the token."""
MAX_WAITING_OF_CLIENT = MAX_WAITING // 2
"""Maximum number of them from one address. Thousands of followers may connect at once when a daemon has restarted."""

_LINGER_S = 1.0
"""Time in which a refused client can read its answer; what it still sends is dropped."""
_STALE_S = 1.0
"""Time after which a connection that has not shown the token gives way where descriptors are short."""
_MADE_ROOM = 32
_LOG_INTERVAL_S = 60.0
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"[A-Z-]+ [^ ]+ HTTP/1\.[01]\r\n")

_log = logging.getLogger(__name__)


class Gatekeeper:
    """The connections that have not shown the token yet.

    Attributes:
        guard: knows the token.
        serve: makes the protocol that takes a connection over once it has shown the token.
        is_closed: whether no connection is served any more.
    """

    def __init__(self, guard: Guard, serve: Callable[[], asyncio.Protocol]) -> None:
        self.guard = guard
        self.serve = serve
        self._waiting: dict[Gate, str] = {}  # in the order of their arrival
        self._of_client: Counter[str] = Counter()
        self.is_closed = False
        self._log_at = 0.0
        self._unlogged: Counter[str] = Counter()

    def make_gate(self) -> "Gate":
        """Return the protocol of a new connection."""
        return Gate(self)

    def close(self) -> None:
        """Drop all connections that wait, and those that are still being accepted."""
        self.is_closed = True
        for gate in tuple(self._waiting):
            gate.drop()

    def admit(self, gate: "Gate", client: str) -> bool:
        """Let a new connection wait, and drop another if there are too many. False: there is no room for any.

        Connections that have waited leave room for starts. Others may use half of the reserve, which starts leave.
        """
        free, reserve = descriptors.free(), descriptors.reserve()
        if free < 2 * reserve:
            self._drop_stale()
        oldest = next(iter(self._waiting), None)
        if self._of_client[client] >= MAX_WAITING_OF_CLIENT:
            oldest = next(other for other, its_client in self._waiting.items() if its_client == client)
        elif len(self._waiting) < MAX_WAITING and free >= reserve // 2:
            oldest = None
        elif oldest is None:
            self.log("for lack of open files (ulimit -n)")
            return False
        if oldest is not None:
            self.log("because too many connections have not shown the token")
            oldest.drop()
        self._waiting[gate] = client
        self._of_client[client] += 1
        return True

    def _drop_stale(self) -> None:
        """Drop the connections that have waited longer than a client takes to send what it has."""
        before = time.monotonic() - _STALE_S
        for gate in tuple(itertools.takewhile(lambda gate: gate.since < before, self._waiting)):
            self.log("because open files are short, and they had not shown the token")
            gate.drop()

    def make_room(self, why: str) -> None:
        """Drop some connections that wait, because no more can be accepted."""
        self.log(why)
        for gate in tuple(itertools.islice(self._waiting, _MADE_ROOM)):
            gate.drop()

    def leave(self, gate: "Gate") -> None:
        """Note that a connection waits no longer."""
        client = self._waiting.pop(gate, None)
        if client is not None:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def log(self, why: str) -> None:
        """Log that a connection was refused: one line a minute at most, however many there are."""
        self._unlogged[why] += 1
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + _LOG_INTERVAL_S
            _log.warning(
                "refused connections: %s", "; ".join(f"{count} {reason}" for reason, count in self._unlogged.items())
            )
            self._unlogged.clear()


class Gate(asyncio.Protocol):
    """One connection, until it has shown the token or is refused.

    Attributes:
        since: monotonic time of its arrival.
    """

    def __init__(self, keeper: Gatekeeper) -> None:
        self.since = time.monotonic()
        self._keeper = keeper
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._head = bytearray()
        self._head_bytes = 0
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self._be_late)
        if self._keeper.is_closed:
            self._transport.abort()
        elif not self._keeper.admit(self, _client(transport.get_extra_info("peername"))):
            self._refuse(to_response(Unavailable("the daemon has too many open files: try again later")))

    def data_received(self, data: bytes) -> None:
        """Look for the end of the head, and decide."""
        if self._is_refused:
            return
        searched = max(0, len(self._head) - len(_END))
        self._head += data
        if not self._head[:1].isalpha():
            self._refuse_malformed("what was sent is not an HTTP request: send HTTP/1.1, without TLS")
            return
        if not self._head_bytes and (end := self._head.find(_END, searched, HEAD_BYTES)) >= 0:
            self._head_bytes = end + len(_END)
        if self._head_bytes:
            self._decide(bytes(self._head[: self._head_bytes]))
        elif len(self._head) >= HEAD_BYTES:
            self._refuse_malformed(f"the headers are larger than {HEAD_BYTES} bytes: send less")

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        self._keeper.leave(self)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self._keeper.leave(self)
        self._transport.abort()

    def _be_late(self) -> None:
        self._keeper.log(f"because they had not shown the token within {HEAD_S:.0f} s")
        self.drop()

    def _decide(self, head: bytes) -> None:
        guard = self._keeper.guard
        if not _REQUEST_LINE.match(head):
            self._refuse_malformed("the first line is not that of an HTTP request: send METHOD PATH HTTP/1.1")
            return
        end = len(head) + guard.body_bytes(head)
        if len(self._head) < end:  # the rest of what somebody logs in with is on its way
            return
        body = bytes(self._head[len(head) : end])
        if guard.is_shown_in(head, body):
            self._timer.cancel()
            self._keeper.leave(self)
            served = self._keeper.serve()
            self._transport.set_protocol(served)
            served.connection_made(self._transport)
            served.data_received(bytes(self._head))
            self._head.clear()
        else:
            self._keeper.log("because the token was missing or wrong")
            self._refuse(guard.refuse_first(head, body), with_body=not head.startswith(b"HEAD "))

    def _refuse_malformed(self, sentence: str) -> None:
        self._keeper.log("because what they sent was not a request")
        self._refuse(to_response(InvalidRequest(sentence)))

    def _refuse(self, response: web.Response | None, *, with_body: bool = True) -> None:
        """Answer, and close the connection: at once for what this end sends, soon for what the client sends.

        If it was closed with bytes that nobody had read, the kernel would take the answer away from the client.
        """
        self._is_refused = True
        self._head.clear()
        response = response or error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "no answer is known")
        self._transport.write(_encode(response, with_body=with_body))
        self._transport.write_eof()
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self.drop)


def _encode(response: web.Response, *, with_body: bool) -> bytes:
    body = cast("bytes", response.body)
    fields = {
        **headers.FIXED,
        **headers.DEFAULT,
        **response.headers,
        hdrs.DATE: formatdate(usegmt=True),
        hdrs.CONTENT_LENGTH: str(len(body)),
        hdrs.CONNECTION: "close",
    }
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")


def _client(peer: tuple[str, ...] | str | None) -> str:
    """Return what counts as one client: an IPv4 address, an IPv6 network of one site, or all of a unix socket."""
    if not isinstance(peer, tuple):
        return "unix"
    address = ipaddress.ip_address(peer[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))

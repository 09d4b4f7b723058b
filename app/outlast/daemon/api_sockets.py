"""The sockets of the HTTP API: taken from the shim, which keeps them when a daemon dies, or bound."""

import contextlib
import errno
import functools
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from outlast.config import Settings
from outlast.daemon import unix_listener
from outlast.daemon.token import check_length
from outlast.model.errors import ConfigError
from outlast.shimlink import fetch_api_sockets
from outlast.wire.api_socket import UNIX, ApiSocket, file_id, host_port

_BACKLOG = 4096
"""Connections that the kernel holds for a daemon that is busy, or that is to come."""
_MAX_PORT = 65535
_PORT_TRIES = 16
_NOT_ON_THIS_MACHINE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
# A peer that has vanished is found out in two minutes. Accepted connections inherit these options.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class _Place(NamedTuple):
    """An address to listen at, as an `ApiSocket` has it, and what bind(2) needs for TCP."""

    address: str
    family: int = socket.AF_UNIX
    sockaddr: tuple[Any, ...] = ()


def check_listen(settings: Settings) -> None:
    """Check the setting `listen`, before anything is made.

    Raises:
        ConfigError: an address is invalid, or named twice, or is reachable from the network and no long token is set.
    """
    found = [place.address for listen in settings.listen for place in _places(settings, listen)]
    twice = next((address for address in found if found.count(address) > 1), None)
    if twice is not None:
        raise ConfigError(f"listen names {twice} twice: name each address once")


@contextlib.asynccontextmanager
async def open_api_sockets(settings: Settings) -> AsyncIterator[list[ApiSocket]]:
    """Listen at all addresses of the setting `listen`; at the end, close this daemon's descriptors.

    Connections wait from now on. The context's body has to give the sockets to the shim. If it raises, the files of
    unix sockets that are new are removed.

    Raises:
        ConfigError: the address is invalid or in use, or is reachable from the network and no long token is set.
        ShimUnavailable: a shim runs, and does not answer.
        ProtocolError: the shim speaks another version of the protocol.
    """
    places = {listen: _places(settings, listen) for listen in settings.listen}
    taken = await fetch_api_sockets(settings.state_path, [it.address for found in places.values() for it in found])
    with contextlib.ExitStack() as opened:
        for one in taken:
            opened.callback(one.close)
        usable = [one for one in taken if one.is_reachable()]
        bound: list[ApiSocket] = []
        try:
            for listen, wanted in places.items():
                fresh = _listen(settings, listen, wanted, usable)
                bound += fresh
                for one in fresh:
                    opened.callback(one.close)
            yield [*usable, *bound]
        except BaseException:
            for one in bound:
                one.remove_file()
            raise


def as_socket(one: ApiSocket) -> socket.socket:
    """Return a socket with a descriptor of its own."""
    return socket.socket(fileno=os.dup(one.fd))


def announced(settings: Settings, sockets: Sequence[ApiSocket]) -> list[str]:
    """Return what tells clients where to connect: each address of the setting, with the port that is in use."""
    return [_announced(settings, listen, sockets) for listen in settings.listen]


def _announced(settings: Settings, listen: str, sockets: Sequence[ApiSocket]) -> str:
    if listen.startswith(UNIX):
        return listen
    own = {place.address for place in _places(settings, listen)}
    with as_socket(next(one for one in sockets if one.address in own)) as sock:
        port = sock.getsockname()[1]
    host, _ = _parse(listen)
    return f"http://{host_port(host, port)}"


@functools.cache  # a name of many machines may give other addresses when it is asked again
def _places(settings: Settings, listen: str) -> list[_Place]:
    if listen.startswith(UNIX):
        return [_Place(f"{UNIX}{Path(listen.removeprefix(UNIX)).absolute()}")]
    host, port = _parse(listen)
    # A client that is told `localhost` may try either address, so no other program may get one of them.
    names = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    try:
        found = [info for name in names for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except OSError as exc:
        raise ConfigError(f"cannot listen on {listen}: {exc.strerror}; choose another --listen") from None
    places = {}
    for family, _type, _proto, _name, sockaddr in found:
        digits = str(sockaddr[0])
        if not ipaddress.ip_address(digits).is_loopback:
            check_length(settings.token, host)
        address = host_port(digits, port)
        places[address] = _Place(address, family, sockaddr)
    return list(places.values())


def _parse(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise ConfigError(f"listen {listen!r} is not HOST:PORT (or unix:/path), for example 127.0.0.1:9501")
    return host, int(port)


def _listen(settings: Settings, listen: str, places: Sequence[_Place], sockets: Sequence[ApiSocket]) -> list[ApiSocket]:
    """Bind at the places of one address where none of the sockets listens.

    Raises:
        ConfigError: that is not possible.
    """
    own = {place.address for place in places}
    try:
        return _bind_missing(settings, places, [one for one in sockets if one.address in own])
    except OSError as exc:
        # The `strerror` of `create_server` repeats the address as a tuple.
        reason = os.strerror(exc.errno) if exc.errno else exc
        raise ConfigError(f"cannot listen on {listen}: {reason}; choose another --listen") from None


def _bind_missing(settings: Settings, places: Sequence[_Place], usable: Sequence[ApiSocket]) -> list[ApiSocket]:
    """Bind where none of the usable sockets listens.

    Raises:
        OSError: an address is in use, or none of them is this machine's.
    """
    missing = [place for place in places if place.address not in {one.address for one in usable}]
    for tries_left in reversed(range(_PORT_TRIES)):
        try:
            return _bind_all(settings, missing, usable)
        except OSError as exc:
            # Port 0 is a port that the first address has free; it may be in use at the second.
            is_any_port = not usable and len(missing) > 1 and missing[0].sockaddr[1] == 0
            if exc.errno != errno.EADDRINUSE or not is_any_port or not tries_left:
                raise
    return []


def _bind_all(settings: Settings, missing: Sequence[_Place], usable: Sequence[ApiSocket]) -> list[ApiSocket]:
    bound: list[ApiSocket] = []
    try:
        for place in missing:
            try:
                bound.append(_bind(settings, place, [*usable, *bound]))
            except OSError as exc:
                if exc.errno not in _NOT_ON_THIS_MACHINE or not (usable or bound):
                    raise
    except BaseException:
        for one in bound:
            one.remove_file()
            one.close()
        raise
    return bound


def _bind(settings: Settings, place: _Place, others: Sequence[ApiSocket]) -> ApiSocket:
    if place.family == socket.AF_UNIX:
        path = Path(place.address.removeprefix(UNIX))
        mode, group = settings.unix_socket_mode, settings.unix_socket_group
        sock = unix_listener.bind(path, mode=mode, group=group, backlog=_BACKLOG)
        return ApiSocket(place.address, sock.detach(), file_id(path))
    host, port, *rest = place.sockaddr
    if port == 0 and others:
        with as_socket(others[0]) as other:
            port = other.getsockname()[1]
    sock = socket.create_server(
        (host, port, *rest),
        family=place.family,
        backlog=_BACKLOG,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )
    for option in _KEEPALIVE:
        sock.setsockopt(*option)
    return ApiSocket(place.address, sock.detach())

"""Connections to a TCP port of this machine, whichever loopback address the service listens on."""

import asyncio

_HOSTS = ("127.0.0.1", "::1")
_DEFAULT_LIMIT_BYTES = 1 << 16


async def connect(
    port: int, *, limit_bytes: int = _DEFAULT_LIMIT_BYTES
) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first loopback address that accepts, and return that address with the connection.

    Raises:
        OSError: neither address accepts. The error is that of the first.
    """
    refusals: list[OSError] = []
    for host in _HOSTS:
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=limit_bytes)
        except OSError as exc:
            refusals.append(exc)
            continue
        # Where nobody listens on a port of the ephemeral range, the kernel may connect a socket to itself.
        if writer.get_extra_info("sockname") != writer.get_extra_info("peername"):
            return host, reader, writer
        writer.transport.abort()
        refusals.append(ConnectionRefusedError(f"nothing listens on {host}"))
    raise refusals[0]

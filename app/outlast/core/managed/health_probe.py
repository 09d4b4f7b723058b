"""Asking a managed process whether it does its work."""

import asyncio
import contextlib

from outlast.model.options import HealthCheck, HealthCheckType

_HOST = "127.0.0.1"
_STATUS_LINE_BYTES = 1024
_FIRST_GOOD, _FIRST_BAD = 200, 400


async def probe(check: HealthCheck) -> str | None:
    """Ask once. None: it is healthy; else a phrase that says what is wrong."""
    try:
        async with asyncio.timeout(check.timeout_ms / 1000):
            return await _ask(check)
    except TimeoutError:
        return f"no answer on port {check.port} within {check.timeout_ms} ms"
    except (OSError, ValueError) as exc:
        return f"port {check.port}: {exc}"


async def _ask(check: HealthCheck) -> str | None:
    reader, writer = await asyncio.open_connection(_HOST, check.port, limit=_STATUS_LINE_BYTES)
    try:
        if check.type is HealthCheckType.TCP:
            return None
        request = f"GET {check.path} HTTP/1.1\r\nHost: {_HOST}:{check.port}\r\nUser-Agent: outlast\r\n"
        writer.write(f"{request}Accept: */*\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004 - version, status
            return f"port {check.port} does not answer in HTTP"
        good = _FIRST_GOOD <= int(words[1]) < _FIRST_BAD
        return None if good else f"GET {check.path} on port {check.port} was answered with {int(words[1])}"
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

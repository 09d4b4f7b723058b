"""The health check of one run: a probe that is repeated, and the kill of a run that is unhealthy."""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace

from outlast.core import local_port
from outlast.core.managed.registry import ManagedProcess
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import EnvKeyLost, OutOfResources, Unavailable
from outlast.model.managed import HealthStatus, ManagedState
from outlast.model.options import HealthCheck, HealthCheckType
from outlast.model.shortage import is_shortage
from outlast.wire.api_socket import host_port

_RETRY_S = 0.5
_STATUS_LINE_BYTES = 1024
_FIRST_GOOD_STATUS, _FIRST_BAD_STATUS = 200, 400


async def watch_health(
    managed: ManagedProcess,
    live: LiveProcess,
    check: HealthCheck,
    probe: Callable[[], Awaitable[str | None]],
    supervisor: Supervisor,
    submit_state: Callable[[ManagedProcess, ManagedState], None],
) -> None:
    """Probe a run until it is unhealthy, then kill its tree. To be cancelled when the run ends.

    Failures that an earlier daemon has counted of the same run count, too. `probe` returns None, or a phrase that says
    what is wrong; it raises `Unavailable` or `EnvKeyLost` if nothing can be said about the run now.
    """
    await asyncio.sleep(max(0.0, check.initial_delay_ms / 1000 - live.clock.age_s))
    while managed.state.health_failures < check.failure_threshold:
        try:
            problem = await probe()
        except (Unavailable, EnvKeyLost) as exc:
            if isinstance(exc, EnvKeyLost) and managed.state.last_error != str(exc):
                submit_state(managed, replace(managed.state, last_error=str(exc)))
            await asyncio.sleep(max(check.interval_ms / 1000, _RETRY_S))
            continue
        before = managed.state
        failures = 0 if problem is None else before.health_failures + 1
        health = HealthStatus.HEALTHY if problem is None else before.health
        error = before.last_error
        if failures >= check.failure_threshold:
            health, error = HealthStatus.UNHEALTHY, f"unhealthy: {problem}"
        state = replace(before, health=health, health_failures=failures, last_error=error)
        if state != before:
            submit_state(managed, state)
        if health is not HealthStatus.UNHEALTHY:
            await asyncio.sleep(check.interval_ms / 1000)
    while True:
        try:
            await supervisor.link.kill(live.key)
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
        else:
            return


async def probe_port(check: HealthCheck, port: int) -> str | None:
    """Probe a port once. Return None if the process is healthy, else a phrase that says what is wrong.

    Raises:
        OutOfResources: this daemon has no descriptor, port or memory for a probe now.
    """
    try:
        async with asyncio.timeout(check.timeout_ms / 1000):
            return await _connect_and_ask(check, port)
    except TimeoutError:
        return f"no answer on port {port} within {check.timeout_ms} ms"
    except (OSError, ValueError) as exc:
        if is_shortage(exc) or getattr(exc, "errno", None) == errno.EADDRNOTAVAIL:
            raise OutOfResources(f"port {port} cannot be probed now: {exc}") from None
        return f"port {port}: {exc}"


async def _connect_and_ask(check: HealthCheck, port: int) -> str | None:
    host, reader, writer = await local_port.connect(port, limit_bytes=_STATUS_LINE_BYTES)
    try:
        if check.type is HealthCheckType.TCP:
            return None
        request = f"GET {check.path} HTTP/1.1\r\nHost: {host_port(host, port)}\r\nUser-Agent: outlast\r\n"
        writer.write(f"{request}Accept: */*\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004 - version, status
            return f"port {port} does not answer in HTTP"
        is_good = _FIRST_GOOD_STATUS <= int(words[1]) < _FIRST_BAD_STATUS
        return None if is_good else f"GET {check.path} on port {port} returned status {int(words[1])}"
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

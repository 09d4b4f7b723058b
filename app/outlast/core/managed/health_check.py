"""The health of one run: looked at again and again, and what follows from it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from outlast.core.managed.health_probe import probe
from outlast.core.managed.registry import ManagedProcess
from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import Unavailable
from outlast.model.managed import HealthStatus, ManagedState
from outlast.model.options import HealthCheck

_AGAIN_S = 0.5


async def watch_health(
    managed: ManagedProcess,
    live: LiveProcess,
    check: HealthCheck,
    supervisor: Supervisor,
    remember: Callable[[ManagedProcess, ManagedState], None],
) -> None:
    """Check a run until it is unhealthy, and kill its tree then. To be cancelled when it ends.

    What an earlier daemon has counted of the same run goes on.
    """
    since_start_ms = max(0, time.time_ns() // 1_000_000 - live.run.started_at_ms)
    await asyncio.sleep(max(0, check.initial_delay_ms - since_start_ms) / 1000)
    while managed.state.health_failures < check.failure_threshold:
        wrong = await probe(check)
        state = managed.state
        failures = 0 if wrong is None else state.health_failures + 1
        health = HealthStatus.HEALTHY if wrong is None else state.health
        error = state.last_error
        if failures >= check.failure_threshold:
            health, error = HealthStatus.UNHEALTHY, f"unhealthy: {wrong}"
        seen = replace(state, health=health, health_failures=failures, last_error=error)
        if seen != state:
            remember(managed, seen)
        if health is not HealthStatus.UNHEALTHY:
            await asyncio.sleep(check.interval_ms / 1000)
    while True:
        try:
            await supervisor.link.kill(live.key)
        except Unavailable:
            await asyncio.sleep(_AGAIN_S)
        else:
            return

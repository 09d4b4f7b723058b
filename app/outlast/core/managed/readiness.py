"""The readiness of one run: it is healthy once it has printed a line that matches."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from outlast.core.managed.registry import ManagedProcess
from outlast.core.query.follow import FollowInterrupted
from outlast.core.query.matcher import Matcher, make_matcher
from outlast.core.supervision.live_process import LiveProcess
from outlast.model.managed import HealthStatus, ManagedState

FindLine = Callable[[ManagedProcess, LiveProcess, Matcher], Awaitable[bool]]
"""Function that waits until a run has printed a line that matches; False: its output has ended without one."""


async def watch_readiness(
    managed: ManagedProcess,
    live: LiveProcess,
    ready_log: str,
    find_line: FindLine,
    submit_state: Callable[[ManagedProcess, ManagedState], None],
) -> None:
    """Wait until a run is ready, unless an earlier daemon has seen that. To be cancelled when the run ends."""
    if managed.state.health is HealthStatus.HEALTHY:
        return
    matcher = make_matcher(ready_log, "ready_log", is_regex=True)
    try:
        is_ready = await find_line(managed, live, matcher)
    except FollowInterrupted:  # the next daemon looks again
        return
    if is_ready:
        submit_state(managed, replace(managed.state, health=HealthStatus.HEALTHY))

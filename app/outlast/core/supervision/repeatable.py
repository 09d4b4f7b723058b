"""Requests that the shim may carry out twice: when it goes before it has answered, the next one gets them again."""

import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from outlast.core.supervision.live_process import LiveProcess
from outlast.core.supervision.supervisor import Supervisor
from outlast.model.errors import NotRunning, ShimUnavailable
from outlast.shimlink import LINK_BROKE, KillOutcome, ShimLink, ShimLost

T = TypeVar("T")

REPEAT_WITHIN_S = 10.0
"""Time within which what a lost shim has cut short goes on with the next one."""


async def ask(
    supervisor: Supervisor, request: Callable[[ShimLink], Awaitable[T]], within_s: float = REPEAT_WITHIN_S
) -> T:
    """Ask the shim, or the one that takes its place, until one answers.

    Args:
        supervisor: has the link.
        request: sends the request by a link. It is called for each shim, because processes get other slots there.
        within_s: how long to wait for a shim.

    Raises:
        ShimUnavailable: there was no shim in time; nothing was done.
        NoAnswer: a shim got the request and is gone or silent, and no other has answered; perhaps it was done.
    """
    deadline = time.monotonic() + within_s
    doubt: ShimLost | None = None
    while True:
        await supervisor.wait_connected(deadline)
        try:
            return await request(supervisor.link)
        except LINK_BROKE as exc:
            doubt = exc if isinstance(exc, ShimLost) else doubt
        except ShimUnavailable as exc:
            raise doubt or exc from None


async def kill(supervisor: Supervisor, key: str, within_s: float = REPEAT_WITHIN_S) -> KillOutcome:
    """SIGKILL the tree of a run. See `ShimLink.kill`, and `ask` for what is raised."""
    return await ask(supervisor, lambda link: link.kill(key), within_s)


async def terminate(supervisor: Supervisor, live: LiveProcess, *, kill_after_ms: int | None = None) -> None:
    """Send a run's stop signal to its group, and continue it, because a stopped process would not hear the signal.

    If the shim dies in between, the process may get the signal twice: better than to be killed without one.
    `kill_after_ms`: see `ShimLink.signal`.

    Raises:
        NotRunning: the process had ended before the first of the two.
        PermissionError: the system refuses.
        ShimUnavailable, NoAnswer: see `ask`.
    """
    number = live.spec.options.stop_signal
    await ask(supervisor, lambda link: link.signal(live.slot, number, kill_after_ms=kill_after_ms))
    with contextlib.suppress(NotRunning):
        await ask(supervisor, lambda link: link.signal(live.slot, signal.SIGCONT))

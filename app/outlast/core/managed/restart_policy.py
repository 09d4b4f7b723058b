"""The restart policy of managed processes: pure functions of how a run ended, and of a random number."""

from collections.abc import Collection
from dataclasses import dataclass

from outlast.model.exit_status import ExitStatus
from outlast.model.options import Restart, RestartPolicy

STABLE_MS = 60_000
"""A run of at least this duration resets the count of failures."""

_MAX_DOUBLINGS = 40
_FIRST_SHORTAGE_MS, _MAX_SHORTAGE_MS = 500, 30_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision after the end of a run.

    Attributes:
        backoff_ms: time between the end of the run and the restart; None means that there is no restart.
        failures: number of restarts in a row, this one included.
    """

    backoff_ms: int | None
    failures: int


def decide(
    restart: Restart,
    ending: ExitStatus | None,
    *,
    success_exit_codes: Collection[int] = (),
    failures: int,
    ran_ms: int,
    draw: float,
) -> Decision:
    """Decide whether and when a process is restarted.

    Args:
        restart: the policy.
        success_exit_codes: exit codes that count as success, besides 0.
        ending: how the run ended; None means that its program could not be executed.
        failures: number of restarts since the last run of at least `STABLE_MS`.
        ran_ms: duration of the run.
        draw: random number, 0 <= draw < 1.
    """
    if ran_ms >= STABLE_MS:
        failures = 0
    failed = ending is None or ending.exit_code not in {0, *success_exit_codes}
    wanted = restart.policy is RestartPolicy.ALWAYS or (restart.policy is RestartPolicy.ON_FAILURE and failed)
    if not wanted or (restart.max_restarts is not None and failures >= restart.max_restarts):
        return Decision(None, failures)
    return Decision(backoff_ms(restart, failures, draw), failures + 1)


def backoff_ms(restart: Restart, failures: int, draw: float) -> int:
    """Return the wait before a restart: 0 (full jitter) up to a bound that doubles from the initial to the maximum.

    If the policy has a delay of its own, it is that.
    """
    if restart.delay_ms is not None:
        return restart.delay_ms
    bound = min(restart.max_backoff_ms, restart.initial_backoff_ms << min(failures, _MAX_DOUBLINGS))
    return int(bound * draw)


def shortage_backoff_ms(tries: int) -> int:
    """Return the wait after `tries` starts in a row that failed because the system lacked something."""
    return min(_MAX_SHORTAGE_MS, _FIRST_SHORTAGE_MS << min(tries - 1, _MAX_DOUBLINGS))

"""When a managed process is started again. Pure: the same answer for the same draw."""

from dataclasses import dataclass

from outlast.model.exit_status import ExitStatus
from outlast.model.options import Restart, RestartPolicy

STABLE_MS = 60_000
_MOST_DOUBLINGS = 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an end.

    Attributes:
        restart_at_ms: when it is started again; None: never.
        failures: how many times in a row it will then have been started again.
    """

    restart_at_ms: int | None
    failures: int


def decide(
    restart: Restart, ending: ExitStatus | None, *, failures: int, ran_ms: int, ended_at_ms: int, draw: float
) -> Verdict:
    """Say what follows from an end.

    The time counts from the end, so one that has passed while nobody was there means at once.

    Args:
        restart: the policy.
        ending: how it ended; None: its program could not be run at all.
        failures: how many times it was started again since it last ran for a stable minute.
        ran_ms: how long this run was.
        ended_at_ms: when it ended.
        draw: from 0 (inclusive) to 1, at random.
    """
    if ran_ms >= STABLE_MS:
        failures = 0
    failed = ending is None or ending.exit_code != 0
    wanted = restart.policy is RestartPolicy.ALWAYS or (restart.policy is RestartPolicy.ON_FAILURE and failed)
    if not wanted or (restart.max_restarts is not None and failures >= restart.max_restarts):
        return Verdict(None, failures)
    return Verdict(ended_at_ms + backoff_ms(restart, failures, draw), failures + 1)


def backoff_ms(restart: Restart, failures: int, draw: float) -> int:
    """Return how long to wait: anything from nothing (full jitter) to a bound that doubles from initial to max."""
    bound = min(restart.max_backoff_ms, restart.initial_backoff_ms << min(failures, _MOST_DOUBLINGS))
    return int(bound * draw)

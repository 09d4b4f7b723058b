"""The restart policy: when a managed process is restarted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.managed.restart_policy import STABLE_MS, backoff_ms, decide
from outlast.model.exit_status import ExitStatus, Reason
from outlast.model.options import Restart, RestartPolicy

restarts = st.builds(
    Restart,
    policy=st.sampled_from(RestartPolicy),
    max_restarts=st.none() | st.integers(0, 5),
    initial_backoff_ms=st.integers(0, 10_000),
    max_backoff_ms=st.integers(10_000, 10**8),
)
draws = st.floats(0, 1, exclude_max=True)
endings = st.none() | st.sampled_from(
    [
        ExitStatus(reason=Reason.EXITED, exit_code=0, ended_at_ms=1),
        ExitStatus(reason=Reason.EXITED, exit_code=1, ended_at_ms=1),
        ExitStatus(reason=Reason.SIGNALED, signal=15, ended_at_ms=1),
        ExitStatus(reason=Reason.LOST, ended_at_ms=1),
        ExitStatus(reason=Reason.TIMED_OUT, signal=9, ended_at_ms=1),
    ]
)


@given(restarts, st.integers(0, 10**6), draws)
def test_a_wait_is_below_a_bound_that_doubles_up_to_the_maximum(restart: Restart, failures: int, draw: float) -> None:
    wait = backoff_ms(restart, failures, draw)
    bound = min(restart.max_backoff_ms, restart.initial_backoff_ms * 2 ** min(failures, 60))
    assert 0 <= wait <= bound
    assert backoff_ms(restart, failures, 0.0) == 0
    assert bound - 1 <= backoff_ms(restart, failures, 1.0) <= bound


def test_a_fixed_delay_is_neither_drawn_nor_doubled() -> None:
    restart = Restart(policy=RestartPolicy.ALWAYS, delay_ms=7)
    waits = {
        decide(restart, None, failures=failures, ran_ms=0, draw=draw).backoff_ms
        for failures in (0, 1, 50)
        for draw in (0.0, 0.5)
    }
    assert waits == {7}
    assert restart.longest_ms == 7


@pytest.mark.parametrize(("exit_code", "is_restarted"), [(0, False), (2, False), (143, False), (1, True), (None, True)])
def test_exit_codes_that_count_as_success(exit_code: int | None, *, is_restarted: bool) -> None:
    reason = Reason.SIGNALED if exit_code is None else Reason.EXITED
    ending = ExitStatus(reason=reason, exit_code=exit_code, signal=15 if exit_code is None else None, ended_at_ms=1)
    verdict = decide(Restart(), ending, success_exit_codes=(2, 143), failures=0, ran_ms=1, draw=0.5)
    assert (verdict.backoff_ms is not None) is is_restarted


@given(restarts, endings, st.integers(0, 10), st.integers(0, 2 * STABLE_MS), draws)
def test_which_ends_lead_to_a_restart(
    restart: Restart, ending: ExitStatus | None, failures: int, ran_ms: int, draw: float
) -> None:
    verdict = decide(restart, ending, failures=failures, ran_ms=ran_ms, draw=draw)
    counted = 0 if ran_ms >= STABLE_MS else failures
    failed = ending is None or ending.exit_code != 0
    wanted = {RestartPolicy.NEVER: False, RestartPolicy.ON_FAILURE: failed, RestartPolicy.ALWAYS: True}[restart.policy]
    if wanted and (restart.max_restarts is None or counted < restart.max_restarts):
        assert verdict.backoff_ms == backoff_ms(restart, counted, draw)
        assert verdict.failures == counted + 1
    else:
        assert verdict.backoff_ms is None

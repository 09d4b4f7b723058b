"""The restart policy: when a managed process is restarted."""

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

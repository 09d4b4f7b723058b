"""Decisions about a managed process: its state after an end, a failure or a replacement, and in words for the log."""

import random
from dataclasses import replace

from outlast.core.managed.registry import ManagedProcess
from outlast.core.managed.restart_policy import Decision, decide, shortage_backoff_ms
from outlast.linux.boot import boot_id
from outlast.model.clock import monotonic_ms, now_ms
from outlast.model.exit_status import ExitStatus
from outlast.model.managed import Desired, ManagedState
from outlast.model.options import Restart


def policy(managed: ManagedProcess) -> Restart:
    """Return the restart policy."""
    return managed.spec.options.restart or Restart()


def decide_for(managed: ManagedProcess, ending: ExitStatus | None, ran_ms: int) -> Decision:
    """Decide what follows the end of a run. See `decide`."""
    return decide(
        policy(managed),
        ending,
        success_exit_codes=managed.spec.options.success_exit_codes,
        failures=managed.state.failures,
        ran_ms=ran_ms,
        draw=random.random(),  # noqa: S311 - it only spreads restarts
    )


def after(state: ManagedState, decision: Decision, ago_ms: int) -> ManagedState:
    """Return the state after a decision about a run that ended `ago_ms` ago."""
    if decision.backoff_ms is None:
        return replace(state, desired=Desired.STOPPED, failures=decision.failures, next_restart_at_ms=None)
    running = replace(state, desired=Desired.RUNNING, failures=decision.failures)
    return due_in(running, max(0, decision.backoff_ms - ago_ms))


def due_in(state: ManagedState, wait_ms: int) -> ManagedState:
    """Return the state with the next run due in `wait_ms`."""
    due = (boot_id(), monotonic_ms() + wait_ms)
    return replace(state, next_restart_at_ms=now_ms() + wait_ms, restart_due=due)


def called(managed: ManagedProcess) -> str:
    """Return how the log calls a process."""
    name = managed.spec.name
    return managed.spec.id if name is None else f"{name} ({managed.spec.id})"


def how_ended(last: ExitStatus | None) -> str:
    """Return in words how a run ended."""
    if last is None:
        return "unknown"
    if last.exit_code is not None:
        return f"exit code {last.exit_code}"
    return str(last.reason) if last.signal is None else f"{last.reason}, signal {last.signal}"


def outlook(state: ManagedState) -> tuple[str, str]:
    """Return in words how the last run ended, and when the next one is started."""
    ended = how_ended(state.last_exit)
    if state.next_restart_at_ms is None:
        return ended, "it is not restarted"
    return ended, f"the next start is in {max(0, state.next_restart_at_ms - now_ms()) / 1000:.1f} s"


def wait_ms(managed: ManagedProcess) -> int:
    """Return the time until the next run is due. By the time of day only if the machine was started again since."""
    state = managed.state
    if state.next_restart_at_ms is None:
        return 0
    boot, due_ms = state.restart_due or ("", 0)
    wait_ms = due_ms - monotonic_ms() if boot == boot_id() else state.next_restart_at_ms - now_ms()
    longest_ms = shortage_backoff_ms(managed.shortages) if managed.shortages else policy(managed).longest_ms
    return min(max(0, wait_ms), longest_ms)


def settled(state: ManagedState) -> ManagedState:
    """Return the state without the replacement that a call has begun: it is done, or given up."""
    return replace(state, replaced_run=0, wanted=None, or_stopped=False)


def without_wanted(state: ManagedState, error: str) -> ManagedState:
    """Return the state after what was wanted could not be started: with the program before, or stopped as before."""
    if state.or_stopped:
        return replace(settled(state), desired=Desired.STOPPED, next_restart_at_ms=None, last_error=error)
    return replace(state, wanted=None, last_error=error)

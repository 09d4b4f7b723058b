"""Serializers: processes and runs as JSON-ready dictionaries."""

from typing import Any

from outlast.core.views import ProcessView
from outlast.model.exit_status import ExitStatus, Status
from outlast.model.managed import Desired, HealthStatus, ManagedState, ManagedStatus
from outlast.model.options import HealthCheck, HealthCheckType, Options, Restart
from outlast.model.output import Trimmed
from outlast.model.process import Run


def process_info(view: ProcessView) -> dict[str, Any]:
    """Return a process as `responses.ProcessInfo` describes it."""
    process = view.process
    spec, run, output = process.spec, process.run, process.output
    terminal = spec.options.terminal
    return {
        "pid": run.pid,
        "handle": process.handle,
        "id": spec.id,
        **run_status(run),
        "stdin_writable": view.stdin_writable,
        "command": spec.command,
        "args": spec.args,
        **_times(run),
        "managed": _managed_info(view, process.managed) if process.managed else None,
        "name": spec.name,
        "tags": dict(spec.tags),
        "working_dir": spec.working_dir,
        "user": spec.user,
        "success_exit_codes": list(spec.options.success_exit_codes),
        "nice": spec.options.nice,
        "limits": spec.options.limits.given,
        "tty": None if terminal is None else {"rows": terminal.rows, "cols": terminal.cols},
        "stdin_mode": spec.stdin_mode,
        "stdout_mode": spec.stdout_mode,
        "stderr_mode": spec.stderr_mode,
        "run": run.number,
        "output": {
            "lines": output.lines,
            "bytes": output.bytes,
            "first_seq": output.first_seq,
            "last_seq": output.last_seq,
            "last_at": output.latest_ms,
            "trimmed": _trimmed(output.trimmed) if output.trimmed else None,
        },
    }


def _trimmed(trimmed: Trimmed) -> dict[str, int]:
    return {
        "last_seq": trimmed.last_seq,
        "lines": trimmed.lines,
        "bytes": trimmed.bytes,
        "until": trimmed.until_ms,
    }


def run_info(run: Run) -> dict[str, Any]:
    """Return a run as `responses.RunInfo` describes it."""
    return {"run": run.number, "pid": run.pid, **run_status(run), **_times(run)}


def run_status(run: Run) -> dict[str, Any]:
    """Return whether a run has ended, and how."""
    ending = run.ending
    return {
        "status": run.status,
        "reason": ending.reason if ending else None,
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "oom_killed": run.status is Status.OOM_KILLED,
    }


def _times(run: Run) -> dict[str, Any]:
    return {"started_at": run.started_at_ms, "ended_at": run.ending.ended_at_ms if run.ending else None}


def _managed_info(view: ProcessView, state: ManagedState) -> dict[str, Any]:
    spec, run = view.process.spec, view.process.run
    restart, check = spec.options.restart or Restart(), spec.options.health_check
    last_exit = run.ending or state.last_exit
    is_due = state.decided_run == run.number
    return {
        "id": spec.name or spec.id,
        "name": spec.name,
        "status": _managed_status(view, state),
        "restart_count": run.number - 1,
        "restart": {
            "policy": restart.policy,
            "max_restarts": restart.max_restarts,
            "initial_backoff_ms": restart.initial_backoff_ms,
            "max_backoff_ms": restart.max_backoff_ms,
            "delay_ms": restart.delay_ms,
        },
        "health_check": _check_info(check) if check else None,
        "ready_log": spec.options.ready_log,
        "health_status": _health_status(spec.options, state, run),
        "consecutive_health_failures": state.health_failures if state.health_run == run.number else 0,
        "last_exit": _exit_info(last_exit) if last_exit else None,
        "last_error": state.last_error,
        "next_restart_at": state.next_restart_at_ms if is_due else None,
    }


def _managed_status(view: ProcessView, state: ManagedState) -> ManagedStatus:
    if view.starting:
        return ManagedStatus.STARTING
    run = view.process.run
    if run.ending is not None and state.desired is Desired.STOPPED:
        return ManagedStatus.STOPPED
    # Whether an ended run is followed by another is decided a moment after its end.
    return ManagedStatus.BACKING_OFF if state.decided_run == run.number else ManagedStatus.RUNNING


def _health_status(options: Options, state: ManagedState, run: Run) -> HealthStatus:
    if options.health_check is None and options.ready_log is None:
        return HealthStatus.DISABLED
    said = state.health if state.health_run == run.number else None
    if run.ending is None or said is HealthStatus.UNHEALTHY:
        return said or HealthStatus.STARTING
    return HealthStatus.DISABLED if state.desired is Desired.STOPPED else HealthStatus.STARTING


def _check_info(check: HealthCheck) -> dict[str, Any]:
    return {
        "type": check.type,
        "port": check.port,
        "path": check.path if check.type is HealthCheckType.HTTP else None,
        "command": check.command,
        "args": list(check.args) if check.type is HealthCheckType.EXEC else None,
        "initial_delay_ms": check.initial_delay_ms,
        "interval_ms": check.interval_ms,
        "timeout_ms": check.timeout_ms,
        "failure_threshold": check.failure_threshold,
    }


def _exit_info(ending: ExitStatus) -> dict[str, Any]:
    return {
        "exit_code": ending.exit_code,
        "signal": ending.signal,
        "oom_killed": ending.status is Status.OOM_KILLED,
        "ended_at": ending.ended_at_ms,
    }

"""Rows of the tables `process`, `run`, `managed` and `event`, from and to the model.

Structured values (arguments, tags, options, the state of a managed process) are JSON text in every SQL store.
"""

import json
from collections.abc import Sequence
from typing import Any

from outlast.model.event import Event, EventType, PurgeReason
from outlast.model.exit_status import ExitStatus, Reason
from outlast.model.managed import ManagedState
from outlast.model.options import Options
from outlast.model.output import Position, Trimmed
from outlast.model.process import OutputMode, OutputSummary, ProcessSpec, Run, StdinMode

SPEC_COLUMNS = (
    "id",
    "name",
    "command",
    "args",
    "env_keys",
    "working_dir",
    "user",
    "stdin_mode",
    "stdout_mode",
    "stderr_mode",
    "idempotency_key",
    "options",
    "encrypted_env",
)
"""Columns of `process` that hold its specification, in the order of `spec_to_row` and `spec_from_row`."""

FIXED_COLUMNS = {"id", "name", "idempotency_key"}
"""Columns of `SPEC_COLUMNS` that a change of the specification leaves as they are."""

CHANGED_COLUMNS = tuple(column for column in SPEC_COLUMNS if column not in FIXED_COLUMNS)
"""Columns that it replaces, in the order of `changed_to_row`."""

RUN_COLUMNS = ("number", "pid", "started_at", "ended_at", "reason", "exit_code", "signal", "output_complete")
"""Columns of `run`, in the order of `run_from_row`."""

EVENT_COLUMNS = ("id", "type", "ts", "process_id", "name", "tags", "run", "pid", "reason", "exit_code", "signal")
"""Columns of `event`, in the order of `event_from_row`."""


def spec_to_row(spec: ProcessSpec) -> tuple[str | None, ...]:
    """Return the values of `SPEC_COLUMNS`. Tags have a table of their own."""
    return (
        spec.id,
        spec.name,
        spec.command,
        json.dumps(spec.args, ensure_ascii=False),
        json.dumps(spec.env_keys, ensure_ascii=False),
        spec.working_dir,
        spec.user,
        spec.stdin_mode,
        spec.stdout_mode,
        spec.stderr_mode,
        spec.idempotency_key,
        json.dumps(spec.options.to_record()),
        spec.encrypted_env,
    )


def changed_to_row(spec: ProcessSpec) -> tuple[str | None, ...]:
    """Return the values of `CHANGED_COLUMNS`."""
    values = zip(SPEC_COLUMNS, spec_to_row(spec), strict=True)
    return tuple(value for column, value in values if column not in FIXED_COLUMNS)


def spec_from_row(row: Sequence[Any], tags: str) -> ProcessSpec:
    """Return the specification in a row of `SPEC_COLUMNS`; `tags` is a JSON object."""
    id_, name, command, args, env_keys, working_dir, user, stdin, stdout, stderr, key, options, encrypted_env = row
    return ProcessSpec(
        id=id_,
        command=command,
        args=tuple(json.loads(args)),
        env_keys=tuple(json.loads(env_keys)),
        working_dir=working_dir,
        user=user,
        stdin_mode=StdinMode(stdin),
        stdout_mode=OutputMode(stdout),
        stderr_mode=OutputMode(stderr),
        name=name,
        tags=json.loads(tags),
        idempotency_key=key,
        options=Options.from_record(json.loads(options)),
        encrypted_env=encrypted_env,
    )


def run_from_row(row: Sequence[Any]) -> Run:
    """Return the run in a row of `RUN_COLUMNS`."""
    number, pid, started_at, ended_at, reason, exit_code, signal, complete = row
    ending = None
    if ended_at is not None:
        ending = ExitStatus(reason=Reason(reason), exit_code=exit_code, signal=signal, ended_at_ms=ended_at)
    return Run(number=number, pid=pid, started_at_ms=started_at, ending=ending, output_complete=bool(complete))


def managed_to_row(state: ManagedState) -> tuple[str, str]:
    """Return the values of the columns `desired` and `state` of `managed`."""
    return state.desired, json.dumps(state.to_record(), ensure_ascii=False)


def managed_from_text(state: str | None) -> ManagedState | None:
    """Return what the column `state` of `managed` holds; None: the process is not managed."""
    return None if state is None else ManagedState.from_record(json.loads(state))


def output_summary(
    position: Position,
    *,
    missing_bytes: int,
    latest_ms: int | None,
    trimmed: Trimmed | None = None,
    trimmed_end: int | None = None,
) -> OutputSummary:
    """Return what is stored of a process's output.

    Args:
        position: its end.
        missing_bytes: bytes for which its gaps stand, but for trimmed ones.
        latest_ms: its latest time, that of what is deleted included.
        trimmed: what is deleted.
        trimmed_end: bytes of both streams up to the end of what is deleted, those of gaps included.
    """
    return OutputSummary(
        lines=position.lines - (trimmed.lines if trimmed else 0),
        bytes=position.stdout_end + position.stderr_end - missing_bytes - (trimmed_end or 0),
        first_seq=trimmed.last_seq + 1 if trimmed else min(1, position.last_seq),
        last_seq=position.last_seq,
        latest_ms=latest_ms,
        trimmed=trimmed,
    )


def event_from_row(row: Sequence[Any]) -> Event:
    """Return the event in a row of `EVENT_COLUMNS`."""
    id_, type_, ts, process_id, name, tags, run, pid, reason, exit_code, signal = row
    ending = purge_reason = None
    if reason is not None and type_ == EventType.PURGED:
        purge_reason = PurgeReason(reason)
    elif reason is not None:
        ending = ExitStatus(reason=Reason(reason), exit_code=exit_code, signal=signal, ended_at_ms=ts)
    return Event(
        id=id_,
        type=EventType(type_),
        ts_ms=ts,
        process_id=process_id,
        name=name,
        tags=json.loads(tags),
        run=run,
        pid=pid,
        ending=ending,
        purge_reason=purge_reason,
    )

"""A process's specification as JSON. The shim keeps it, so that the next daemon can record a start if this one dies.

The record's `id` is the run key, by which the shim finds and kills the run.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from outlast.model.options import Options
from outlast.model.process import OutputMode, ProcessSpec, StdinMode, run_key

_FIELDS = tuple(field.name for field in fields(ProcessSpec))


def spec_to_record(spec: ProcessSpec, number: int = 1) -> dict[str, Any]:
    """Return the record of run `number`, for `spec_from_record` and `run_of`."""
    record = {name: getattr(spec, name) for name in _FIELDS}  # `asdict` would copy nested values, too
    return {**record, "id": run_key(spec.id, number), "options": spec.options.to_record()}


def run_of(record: Mapping[str, Any]) -> tuple[str, int]:
    """Return the process's id and the run's number from a record."""
    process_id, _, number = record["id"].partition(".")
    return process_id, int(number or 1)


def spec_from_record(record: Mapping[str, Any]) -> ProcessSpec:
    """Return the specification from a record that `spec_to_record` made."""
    return ProcessSpec(
        **{
            **record,
            "id": run_of(record)[0],
            "args": tuple(record["args"]),
            "env_keys": tuple(record["env_keys"]),
            "stdin_mode": StdinMode(record["stdin_mode"]),
            "stdout_mode": OutputMode(record["stdout_mode"]),
            "stderr_mode": OutputMode(record["stderr_mode"]),
            "options": Options.from_record(record.get("options", {})),
        }
    )
